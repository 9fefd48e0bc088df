//! Asking the person at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::Failure;

/// Whether somebody is there to be asked.
pub(super) fn attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and reads a line. The empty text when nothing more can be read.
pub(super) fn ask(question: &str) -> Result<String, Failure> {
    let failed = |e: io::Error| Failure::failed(format!("the terminal: {e}"));
    // Not locked while it waits: somebody else may have to say that it was interrupted.
    let say = |text: &str| write!(io::stderr(), "{text}").and_then(|()| io::stderr().flush()).map_err(failed);
    say(&format!("{question} "))?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).map_err(failed)?;
    if read == 0 {
        // The prompt's line was not ended by a key.
        say("\n")?;
    }
    Ok(line.trim().to_owned())
}

/// Whether it is to be done: by `--yes`, or because the person says so.
pub(super) fn agreed(question: &str, yes: Yes) -> Result<(), Failure> {
    if yes == Yes::Given {
        return Ok(());
    }
    if !attended() {
        return Err(Failure::usage("nobody is at a terminal to be asked; look at it with --dry-run, then write --yes"));
    }
    match ask(&format!("{question} [y/N]"))?.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was written")),
    }
}

/// `--yes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Yes {
    /// Said beforehand.
    Given,
    /// To be asked for.
    Asked,
}
