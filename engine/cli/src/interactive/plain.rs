//! The prompt without a line editor, for terminals that cannot place their cursor.

use std::io::Write;

use super::prompt::SqlPrompt;
use super::{LEAVE_HINT, enter};
use crate::script;
use crate::shell::{Origin, Shell};
use crate::stdin::StandardInput;

/// Reads lines until the end of the input, `\q`, or Ctrl-C twice.
pub(super) async fn run(shell: &mut Shell, name: &str) -> u8 {
    let prompt = SqlPrompt::new(name);
    let mut input = match StandardInput::start() {
        Ok(input) => input,
        Err(e) => {
            shell.report(&Origin::Prompt, 0, "", &e);
            return 1;
        }
    };
    let mut text = String::new();
    let mut armed = false;
    loop {
        let shown = prompt.text(text.trim().is_empty());
        let mut out = std::io::stdout();
        if out.write_all(shown.as_bytes()).and_then(|()| out.flush()).is_err() {
            return 0;
        }
        shell.interrupts().forget();
        let more = {
            let mut interrupts = shell.interrupts().clone();
            tokio::select! {
                () = interrupts.pressed() => None,
                more = input.more(&mut text) => Some(more),
            }
        };
        match more {
            None => {
                let again = armed && text.trim().is_empty();
                shell.say("");
                if again {
                    return 0;
                }
                armed = text.trim().is_empty();
                if armed {
                    shell.say(LEAVE_HINT);
                }
                text.clear();
            }
            Some(Ok(true)) => {
                armed = false;
                if text.ends_with('\n') && script::is_complete(&text) {
                    let entered = std::mem::take(&mut text);
                    if let Some(status) = enter(shell, &entered).await {
                        return status;
                    }
                }
            }
            Some(Ok(false)) => {
                shell.say("");
                return 0;
            }
            Some(Err(e)) => {
                shell.report(&Origin::Prompt, 0, "", &e);
                return 1;
            }
        }
    }
}
