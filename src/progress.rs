//! Tells people at a terminal that something goes on that takes its time.

use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal as _, time::Duration};

/// What is over sooner needs no word.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does it, and says `what` on stderr after two seconds, if that is a terminal.
pub(crate) async fn told<F: Future>(what: &'static str, job: F) -> F::Output {
    let mut job = std::pin::pin!(job);
    if !std::io::stderr().is_terminal() {
        return job.await;
    }
    tokio::select! {
        done = &mut job => return done,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    let done = job.await;
    bar.finish_and_clear();
    done
}
