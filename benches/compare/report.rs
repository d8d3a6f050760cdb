//! Shows results on the terminal, and writes them to files.

use std::fs;
use std::path::Path;

use super::failure::{Failure, io};
use super::kind::Kind;
use super::options::Options;
use super::plot;
use super::results::Results;
use super::tables::{BEGIN, END, details, memory, page, replace, summary};

pub fn show(results: &Results, kinds: &[Kind]) {
    for table in [details(results, kinds), memory(results, kinds)] {
        if !table.rows.is_empty() {
            println!("{}", table.text());
        }
    }
}

/// Writes every file, and says where.
pub fn write(results: &Results, kinds: &[Kind], options: &Options) -> Result<(), Failure> {
    let directory = options.output();
    fs::create_dir_all(&directory).map_err(io("make the results' directory"))?;
    let json = serde_json::to_string_pretty(results).map_err(|error| io("write JSON")(error.into()))?;
    save(&directory.join("results.json"), &(json + "\n"))?;
    let mut plots = Vec::new();
    for (name, chart) in plot::charts(results, kinds) {
        let file = format!("{name}.svg");
        save(&directory.join(&file), &chart.svg())?;
        plots.push((chart.title, file));
    }
    save(&directory.join("results.md"), &page(results, kinds, &plots))?;
    if let Some(readme) = &options.readme {
        let text = fs::read_to_string(readme).map_err(io("read the file for the summary"))?;
        let summary = summary(results, kinds, &plots, &directory);
        match replace(&text, &summary) {
            Some(text) => save(readme, &text)?,
            None => eprintln!("{} lacks the lines {BEGIN} and {END}", readme.display()),
        }
    }
    Ok(())
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(io("write results"))?;
    println!("{}", path.display());
    Ok(())
}
