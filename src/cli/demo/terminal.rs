//! The terminal: keys without Enter, and a block of lines that is drawn over itself.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use tokio::sync::watch;

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const CLEAR_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// When the terminal does not say how wide it is.
const COLUMNS: usize = 80;

pub(super) struct Terminal {
    keys: Option<Keys>,
    /// Lines of the block that is there now.
    drawn: usize,
}

/// Standard input, one key at a time. Gives the terminal back as it was.
struct Keys {
    before: Termios,
    is_quit: watch::Receiver<bool>,
}

impl Terminal {
    /// None: standard output is no terminal that can be drawn on.
    pub(super) fn take() -> Option<Self> {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || !io::stdout().is_terminal() {
            return None;
        }
        Some(Self {
            keys: Keys::take().ok().flatten(),
            drawn: 0,
        })
    }

    /// Replaces the block.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (columns, rows) = size();
        let mut text = self.back();
        text += HIDE_CURSOR;
        self.drawn = lines.len().min(rows.saturating_sub(1));
        for line in &lines[..self.drawn] {
            text += &cut(line, columns);
            text += CLEAR_LINE_END;
            text += "\n";
        }
        text += CLEAR_BELOW;
        put(&text)
    }

    /// Until somebody presses q or Enter.
    pub(super) async fn quit_key(&self) {
        match &self.keys {
            Some(keys) => keys.quit().await,
            None => std::future::pending().await,
        }
    }

    /// To the block's first line.
    fn back(&self) -> String {
        match self.drawn {
            0 => "\r".to_owned(),
            drawn => format!("\r\x1b[{drawn}A"),
        }
    }
}

impl Drop for Terminal {
    /// A panic keeps the block: what it says stands below.
    fn drop(&mut self) {
        let clear = if std::thread::panicking() {
            String::new()
        } else {
            self.back() + CLEAR_BELOW
        };
        // The terminal may be gone.
        let _ = put(&(clear + SHOW_CURSOR));
    }
}

impl Keys {
    fn take() -> io::Result<Option<Self>> {
        let input = io::stdin();
        // A background job that touches the terminal is stopped.
        if !input.is_terminal() || tcgetpgrp(&input)? != getpgrp() {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut without_enter = before.clone();
        without_enter.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Now, &without_enter)?;
        let (quit, is_quit) = watch::channel(false);
        // A thread of its own, which nobody waits for: a read of a terminal can't be called off.
        thread::spawn(move || {
            let is_key = |key: &io::Result<u8>| key.as_ref().is_ok_and(|key| b"qQ\r\n".contains(key));
            let pressed = input
                .lock()
                .bytes()
                .take_while(Result::is_ok)
                .any(|key| is_key(&key));
            quit.send_replace(pressed);
        });
        Ok(Some(Self { before, is_quit }))
    }

    async fn quit(&self) {
        let mut is_quit = self.is_quit.clone();
        if is_quit.wait_for(|quit| *quit).await.is_err() {
            // The end of input is no key.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Standard output, whose reader may be gone: `println!` would panic.
pub(super) fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (COLUMNS, usize::MAX),
    }
}

/// As much of the line as fits; colours take no room.
fn cut(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let mut width = 0;
    let mut in_escape = false;
    for character in line.chars() {
        in_escape |= character == '\x1b';
        if !in_escape {
            width += 1;
        }
        if in_escape || width <= columns {
            kept.push(character);
        }
        in_escape &= character != 'm';
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_its_colour_with_it() {
        assert_eq!(cut("twelve chars", 6), "twelve");
        assert_eq!(cut("\x1b[31m0 errors\x1b[0m", 3), "\x1b[31m0 e\x1b[0m");
        assert_eq!(cut("····", 2), "··");
    }
}
