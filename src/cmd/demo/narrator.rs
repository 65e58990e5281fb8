//! Tells on stderr what is happening: a line a step, and a bar while something takes long.

use crate::paint::Paint;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    cell::RefCell,
    fmt::Display,
    io::{IsTerminal, Write, stderr},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior, timeout};

/// Work of this length gets a bar on a terminal, and a line before it elsewhere.
const LONG: Duration = Duration::from_secs(2);
/// What should be quick is shown after this.
const QUIET: Duration = Duration::from_secs(1);
/// How often a bar moves.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line tells where there is no bar.
const REMINDER: Duration = Duration::from_secs(10);

/// Writes the story.
#[derive(Debug)]
pub(super) struct Narrator {
    started: Instant,
    terminal: bool,
    paint: Paint,
    bar: RefCell<Option<ProgressBar>>,
}

impl Narrator {
    /// One for this process's stderr.
    pub(super) fn new() -> Self {
        let terminal = stderr().is_terminal();
        Self { started: Instant::now(), terminal, paint: Paint::of(&stderr()), bar: RefCell::default() }
    }

    /// What it is all about.
    pub(super) fn title(&self, text: &str) {
        self.write(&format!("{}\n", self.paint.bold(text)));
    }

    /// One step that has been done.
    pub(super) fn step(&self, topic: &str, text: impl Display) {
        self.write(&self.line(topic, &text.to_string()));
    }

    /// Awaits `work`, which takes about `length`, and shows how far it is.
    pub(super) async fn during<T>(
        &self,
        topic: &str,
        doing: &str,
        length: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        if length < LONG {
            return work.await;
        }
        let doing = format!("{doing}, {:.0} s", length.as_secs_f64());
        self.show(topic, &doing, length, work).await
    }

    /// Awaits `work`, which should be quick; shows it when it is not, and how much of `limit` is over.
    pub(super) async fn waiting<T>(
        &self,
        topic: &str,
        doing: &str,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(result) = timeout(QUIET, &mut work).await {
            return result;
        }
        let doing = format!("{doing}, at most {} s", limit.as_secs());
        self.show(topic, &doing, limit, work).await
    }

    /// A bar on a terminal; elsewhere a line now and then.
    async fn show<T>(&self, topic: &str, doing: &str, length: Duration, work: impl Future<Output = T>) -> T {
        let shown = Shown::new(self, topic, doing, length);
        let mut work = std::pin::pin!(work);
        let period = if self.terminal { FRAME } else { REMINDER };
        let mut frames = tokio::time::interval_at(Instant::now() + period, period);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = frames.tick() => shown.update(),
            }
        }
    }

    fn line(&self, topic: &str, text: &str) -> String {
        let elapsed = format!("{:6.1} s", self.started.elapsed().as_secs_f64());
        format!("{}  {} {text}", self.paint.dim(&elapsed), self.paint.cyan(&format!("{topic:<9}")))
    }

    fn write(&self, line: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.println(line),
            // Without a stderr there is nobody to tell the story to.
            None => drop(writeln!(stderr().lock(), "{line}")),
        }
    }
}

/// Long work that is being shown; the bar is gone when this is dropped, finished or not.
struct Shown<'a> {
    narrator: &'a Narrator,
    topic: &'a str,
    doing: &'a str,
    begun: Instant,
    length: Duration,
}

impl<'a> Shown<'a> {
    fn new(narrator: &'a Narrator, topic: &'a str, doing: &'a str, length: Duration) -> Self {
        if !narrator.terminal {
            narrator.step(topic, format_args!("{doing} ..."));
        } else {
            let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
            bar.set_style(style());
            bar.set_prefix(narrator.line(topic, doing));
            *narrator.bar.borrow_mut() = Some(bar);
        }
        Self { narrator, topic, doing, begun: Instant::now(), length }
    }

    fn update(&self) {
        let (done, all) = (self.begun.elapsed().min(self.length), self.length.as_secs());
        match &*self.narrator.bar.borrow() {
            Some(bar) => {
                bar.set_prefix(self.narrator.line(self.topic, self.doing));
                bar.set_message(format!("{:.1} s", done.as_secs_f64()));
                bar.set_position(u64::try_from(done.as_millis()).unwrap_or(u64::MAX));
            }
            None => self.narrator.step(self.topic, format_args!("... {} of {all} s", done.as_secs())),
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.narrator.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} {bar:24} {msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}
