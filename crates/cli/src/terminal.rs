//! What goes to stderr while a job runs, and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use learn::progress::{Event, Progress, Step};

/// Raised by the first Ctrl-C.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C asks the job to save its work and stop; the second ends the program at once.
pub fn stop_on_interrupt() {
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(1);
        }
        eprintln!("\nstopping: the work done so far is being saved (Ctrl-C again ends at once)");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will end the program without saving: {error}");
    }
}

/// Diagnostics for developers: `FIELDMARK_LOG=debug`.
pub fn start_diagnostics() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FIELDMARK_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Progress on stderr: a bar on a terminal, now and then a line elsewhere.
pub struct Talk {
    quiet: bool,
    state: Mutex<State>,
}

struct State {
    bar: Option<ProgressBar>,
    last_line: Option<Instant>,
}

/// Seconds between lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

impl Talk {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, state: Mutex::new(State { bar: None, last_line: None }) }
    }

    pub fn done(&self) {
        if let Some(bar) = self.state().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Talk {
    fn event(&self, event: &Event) {
        if self.quiet {
            return;
        }
        let mut state = self.state();
        match event {
            Event::Stage(name) => {
                if let Some(bar) = state.bar.take() {
                    bar.finish_and_clear();
                }
                state.last_line = Some(Instant::now());
                eprintln!("{name}");
            }
            Event::Note(text) => match &state.bar {
                Some(bar) => bar.println(format!("  {text}")),
                None => eprintln!("  {text}"),
            },
            Event::Step(step) if std::io::stderr().is_terminal() => {
                let bar = state.bar.get_or_insert_with(|| ProgressBar::new(step.total as u64).with_style(style()));
                bar.set_length(step.total as u64);
                bar.set_position(step.done as u64);
                bar.set_message(words(step));
            }
            Event::Step(step) => {
                if state.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
                    state.last_line = Some(Instant::now());
                    eprintln!("  {}/{} {}", step.done, step.total, words(step));
                }
            }
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("  {bar:30} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn words(step: &Step) -> String {
    let mut parts = Vec::new();
    if !step.text.is_empty() {
        parts.push(step.text.clone());
    }
    parts.extend(step.rate.map(|rate| format!("{rate:.0} images/s")));
    parts.extend(step.eta.map(|eta| format!("{} left", HumanDuration(eta))));
    parts.join(", ")
}
