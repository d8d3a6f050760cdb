//! As much of Markdown as the documents use.

use std::path::Path;

/// A fenced block of code.
pub struct Block {
    pub language: String,
    /// The nearest heading above it.
    pub heading: String,
    pub text: String,
}

impl Block {
    /// What a shell takes as one command each: comments gone, continued lines joined.
    pub fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", "");
        let without_comment = |line: &str| {
            let (command, _) = line.split_once(" # ").unwrap_or((line, ""));
            command.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let lines = joined.lines().map(without_comment);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }
}

pub struct Document {
    pub name: &'static str,
    pub text: String,
    pub blocks: Vec<Block>,
    /// Everything that is in no block.
    pub prose: String,
}

impl Document {
    pub fn read(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(path).unwrap();
        let mut document = Self {
            name,
            text,
            blocks: Vec::new(),
            prose: String::new(),
        };
        document.take_apart();
        document
    }

    fn take_apart(&mut self) {
        let mut heading = String::new();
        // The block that is open, and how far it is indented.
        let mut open: Option<(Block, usize)> = None;
        for line in self.text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(language)) => {
                    let block = Block {
                        language: language.to_owned(),
                        heading: heading.clone(),
                        text: String::new(),
                    };
                    open = Some((block, line.len() - line.trim_start().len()));
                }
                (Some(_), Some(_)) => self.blocks.extend(open.take().map(|(block, _)| block)),
                (Some((block, indent)), None) => {
                    block.text += line.get(*indent..).unwrap_or_default();
                    block.text.push('\n');
                }
                (None, None) => {
                    if let Some(title) = line.strip_prefix('#') {
                        title.trim_start_matches('#').trim().clone_into(&mut heading);
                    }
                    self.prose += line;
                    self.prose.push('\n');
                }
            }
        }
        assert!(open.is_none(), "{}: a block has no end", self.name);
    }

    /// What stands between single backticks, on one line each.
    pub fn spans(&self) -> Vec<String> {
        let parts = self.prose.split('`').skip(1).step_by(2);
        parts
            .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// From below this heading to the next one of its kind or a higher one.
    pub fn section(&self, heading: &str) -> &str {
        let start = format!("\n{heading}\n");
        let at = self
            .text
            .find(&start)
            .unwrap_or_else(|| panic!("no {heading:?} in {}", self.name));
        let body = &self.text[at + start.len()..];
        let level = heading.split(' ').next().unwrap().len();
        let ends = (1..=level).filter_map(|level| body.find(&format!("\n{} ", "#".repeat(level))));
        &body[..ends.min().unwrap_or(body.len())]
    }
}
