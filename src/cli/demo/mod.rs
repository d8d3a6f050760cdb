//! `pgswivel demo`: a Postgres of its own, an application's load with pgswivel and the same load without,
//! and a rotation every few seconds.

mod cluster;
mod failure;
mod find;
mod load;
mod place;
mod program;
mod rotation;
mod runbook;
mod screen;
mod sidecar;
mod stage;
mod summary;
mod terminal;
mod view;
mod words;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_postgres::Client;

use self::failure::Failure;
use self::load::{Load, Ready, Written};
use self::rotation::Rotator;
use self::screen::{Screen, page, where_it_is};
use self::stage::Stage;
use self::summary::Summary;
use self::terminal::put;
use self::view::View;
use self::words::Paint;
use super::exit::Exit;

/// The application twice: as its sessions call themselves, in the order of every table.
const SIDES: [&str; 2] = ["with", "without"];

const TICK: Duration = Duration::from_millis(200);
const TICKS_PER_SECOND: u32 = 5;

/// Show what a rotation does to an application, with pgswivel and without
#[derive(clap::Args)]
#[command(after_help = "\
PostgreSQL is taken from PGSWIVEL_DEMO_POSTGRES (a directory with bin in it), from what `make demo` installs, \
from /usr/lib/postgresql or from PATH. Everything runs on loopback in a temporary directory, and is gone afterwards.

Exits with 0 if the application behind pgswivel saw no error and every write that was acknowledged is there once.")]
pub(super) struct Arguments {
    /// How long the load runs
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Seconds between two rotations
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    rotate_every: u64,

    /// A line a second instead of the live screen
    #[arg(long)]
    plain: bool,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let shown = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failure::io("start"))
        .and_then(|runtime| runtime.block_on(show(arguments)));
    match shown {
        Ok(summary) => {
            let paint = Paint::wanted(io::stdout().is_terminal());
            match put(&summary.text(paint)) {
                Ok(()) if summary.is_kept() => Exit::Fine,
                _ => Exit::Failed,
            }
        }
        Err(failure) => {
            eprintln!("pgswivel demo: {failure}");
            Exit::Failed
        }
    }
}

/// From nothing to a summary, with everything that was started ended again.
async fn show(arguments: &Arguments) -> Result<Summary, Failure> {
    let mut interrupts = Interrupts::new().map_err(failure::io("listen for signals"))?;
    put("Starting PostgreSQL and pgswivel …\n").map_err(failure::io("write"))?;
    let (stage, rotator, loads) = tokio::select! {
        prepared = prepare() => prepared?,
        () = interrupts.next() => return Err(Failure::Interrupted),
    };
    let screen = Screen::new(arguments.plain);
    let where_to_look = format!("{}\nwatch it at {}", where_it_is(&stage), page(&stage));
    screen.say(&where_to_look).map_err(failure::io("write"))?;
    let show = Show {
        every: Duration::from_secs(arguments.rotate_every),
        end: Instant::now() + Duration::from_secs(arguments.seconds),
        interrupts,
        screen,
    };
    show.run(&stage, rotator, loads).await
}

async fn prepare() -> Result<(Stage, Rotator, [Ready; 2]), Failure> {
    let (stage, rotator) = Stage::set().await?;
    let loads = [
        Ready::new(SIDES[0], stage.with_pgswivel()).await?,
        Ready::new(SIDES[1], stage.without_pgswivel()).await?,
    ];
    Ok((stage, rotator, loads))
}

struct Show {
    every: Duration,
    end: Instant,
    interrupts: Interrupts,
    screen: Screen,
}

impl Show {
    async fn run(mut self, stage: &Stage, rotator: Rotator, loads: [Ready; 2]) -> Result<Summary, Failure> {
        let admin = stage.cluster.connect().await?;
        let (end, ending) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let loads = loads.map(|load| load.start(&stopping));
        let mut view = View::new(loads.each_ref().map(Load::tally), rotator.progress());
        let play = play(
            &admin,
            rotator.run(self.every, stage.sidecar.admin(), ending),
            loads,
            stop,
        );
        let written = self.watch(stage, &admin, &mut view, end, play).await?;
        view.look(&stage.sidecar);
        view.turn_second();
        Ok(Summary::new(view, written, where_it_is(stage)))
    }

    /// Shows what goes on until the play is over, and tells it when to come to its end.
    async fn watch(
        &mut self,
        stage: &Stage,
        admin: &Client,
        view: &mut View,
        end: watch::Sender<bool>,
        play: impl Future<Output = Result<[Written; 2], Failure>>,
    ) -> Result<[Written; 2], Failure> {
        let mut play = std::pin::pin!(play);
        let mut progress = view.progress();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut is_ending = false;
        let mut tick = 0;
        loop {
            tokio::select! {
                written = &mut play => return written,
                () = self.interrupts.next() => {
                    if is_ending {
                        return Err(Failure::Interrupted);
                    }
                    is_ending = true;
                }
                () = self.screen.quit_key(), if !is_ending => is_ending = true,
                () = sleep_until(self.end), if !is_ending => is_ending = true,
                Ok(()) = progress.changed() => {
                    let progress = *progress.borrow_and_update();
                    self.screen.step(&progress).map_err(failure::io("write"))?;
                }
                _ = ticks.tick() => {
                    view.look(&stage.sidecar);
                    tick += 1;
                    if tick % TICKS_PER_SECOND == 0 {
                        view.turn_second();
                        if !is_ending {
                            view.ask(admin).await?;
                        }
                        self.screen.second(&view.now).map_err(failure::io("write"))?;
                    }
                    let left = (!is_ending).then(|| self.end.saturating_duration_since(Instant::now()));
                    self.screen.refresh(stage, view, left).map_err(failure::io("write"))?;
                }
            }
            end.send_replace(is_ending);
        }
    }
}

/// Rotations until they are to end, then the end of the load, which therefore sees whole rotations.
async fn play(
    admin: &Client,
    rotations: impl Future<Output = Result<(), Failure>>,
    loads: [Load; 2],
    stop: watch::Sender<bool>,
) -> Result<[Written; 2], Failure> {
    rotations.await?;
    stop.send_replace(true);
    let [with, without] = loads;
    Ok([with.finish(admin).await?, without.finish(admin).await?])
}

/// What a terminal or a supervisor sends to end it.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
