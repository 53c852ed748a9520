//! A picture of every view: light and dark, at 1280x800, at 2560x1440, and at 1280x800 with everything 1.4 times as large.
//!
//! `cargo run --example screenshots -- OUT_DIR [--run DIR] [--preset lab-writer] [--steps N] [--view NAME] [--size 1280x4000]`:
//! of a run that is given, or of one that is trained first, in `OUT_DIR/runs`, which is removed again; of one view, and in one
//! size, a tall one for a view that scrolls. The pictures are `VIEW-SIZE-COLOURS.png`. Needs no
//! display and no graphics driver: the window's own meshes are drawn by `raster.rs`, the same bits on every machine.
#![expect(clippy::print_stderr, reason = "an example for developers")]

mod raster;

use adamix::app::actions::Action;
use adamix::app::headless::{DrawnFrame, Headless};
use adamix::app::settings::{Appearance, Settings};
use adamix::app::view::View;
use adamix::app::{WindowOptions, first_form};
use adamix::config::{RunConfig, presets};
use adamix::engine::EngineHandle;
use adamix::error::{Error, Result};
use adamix::protocol::{
    Checkpoint, Engine, ExportPlan, ExportTarget, FanPlan, GridPlan, MergePlan, ModelQuery, NumberFormat, ReplayPlan,
    RerollPlan, RoutesPlan, Side, Split, Study, Subject, TryInput,
};
use adamix::train::{Control, NullObserver};
use adamix::workflow::run::{Run, prepare};
use raster::Canvas;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Width and height in pixels, and the window's zoom.
const SIZES: [([f32; 2], f32, &str); 3] =
    [([1280.0, 800.0], 1.0, "1280x800"), ([2560.0, 1440.0], 1.0, "2560x1440"), ([1280.0, 800.0], 1.4, "zoom1.4")];
/// Seconds between two frames.
const FRAME: f64 = 1.0 / 60.0;
/// Seconds for which notices are shown, and more.
const NOTICES: usize = 30;
/// Frames until everything that moves has come to rest.
const SETTLE: usize = 40;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(600);

struct Asked {
    out: PathBuf,
    run: Option<PathBuf>,
    preset: String,
    steps: u64,
    view: Option<View>,
    size: Option<[f32; 2]>,
}

fn main() {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!(
                "{problem}; screenshots OUT_DIR [--run DIR] [--preset NAME] [--steps N] [--view NAME] [--size WxH]"
            );
            std::process::exit(2);
        }
    };
    if let Err(err) = pictures(&asked) {
        eprintln!("{err}");
        std::process::exit(1);
    }
}

fn asked() -> std::result::Result<Asked, String> {
    let (mut out, mut run, mut preset, mut steps) = (None, None, "lab".to_owned(), 60);
    let (mut view, mut size) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--run" => run = Some(PathBuf::from(value()?)),
            "--preset" => preset = value()?,
            "--steps" => steps = value()?.parse().map_err(|_| "--steps needs a whole number".to_owned())?,
            "--view" => {
                let name = value()?;
                view =
                    Some(serde_json::from_value(name.clone().into()).map_err(|_| format!("there is no view {name}"))?);
            }
            "--size" => {
                let text = value()?;
                let lengths: Vec<f32> = text.split('x').filter_map(|length| length.parse().ok()).collect();
                size = Some(<[f32; 2]>::try_from(lengths).map_err(|_| "--size needs WIDTHxHEIGHT".to_owned())?);
            }
            _ if arg.starts_with("--") => return Err(format!("unknown argument {arg}")),
            _ => out = Some(PathBuf::from(arg)),
        }
    }
    Ok(Asked { out: out.ok_or("no directory for the pictures")?, run, preset, steps, view, size })
}

fn pictures(asked: &Asked) -> Result<()> {
    std::fs::create_dir_all(&asked.out).map_err(|err| Error::io("creating a directory", &asked.out, err))?;
    let runs = asked.out.join("runs");
    // Only what was made here is removed again.
    std::fs::create_dir(&runs).map_err(|err| Error::io("creating a directory", &runs, err))?;
    let result = draw(asked, &runs);
    std::fs::remove_dir_all(&runs).ok(); // the pictures are there, or the error says why not
    result
}

fn draw(asked: &Asked, runs: &Path) -> Result<()> {
    let run = match &asked.run {
        Some(run) => run.clone(),
        None => train(asked, runs)?,
    };
    let mut form = first_form();
    form.runs_dir = run.parent().map(|root| root.display().to_string()).unwrap_or_default();
    let options = WindowOptions { form: Some(form), open: Some(run.clone()), ..WindowOptions::default() };
    let engine = EngineHandle::spawn(Arc::new(|| {})).map(|engine| -> Box<dyn Engine> { Box::new(engine) });
    let mut studio = Studio {
        window: Headless::open(engine, Settings::default(), options, SIZES[0].0),
        textures: raster::Textures::default(),
    };
    fill(&mut studio, &run)?;
    let own = asked.size.map(|size| [(size, 1.0, "own")]);
    let views: Vec<View> = View::ALL.into_iter().filter(|view| asked.view.is_none_or(|only| only == *view)).collect();
    for &(pixels, zoom, size) in own.as_ref().map_or(&SIZES[..], |own| &own[..]) {
        studio.window.set_size(pixels, zoom);
        for (appearance, colours) in [(Appearance::Light, "light"), (Appearance::Dark, "dark")] {
            studio.window.app.actions.push(Action::SetAppearance(appearance));
            for &view in &views {
                studio.window.app.actions.push(Action::Show(view));
                let frame = studio.settle(pixels.map(|length| length as usize))?;
                let name = serde_json::to_value(view).ok().and_then(|name| name.as_str().map(str::to_owned));
                let file = asked.out.join(format!("{}-{size}-{colours}.png", name.unwrap_or_default()));
                frame.save(&file)?;
                eprintln!("{}", file.display());
            }
        }
    }
    Ok(())
}

/// A short training of a bundled model.
fn train(asked: &Asked, runs: &Path) -> Result<PathBuf> {
    let mut config = RunConfig::default();
    let all = presets::all();
    let preset = all.iter().find(|preset| preset.name == asked.preset);
    preset.ok_or_else(|| Error::config(format!("there is no preset {:?}", asked.preset)))?.apply(&mut config);
    config.runs_dir = runs.display().to_string();
    config.name = format!("{}-screenshots", asked.preset);
    (config.data.max_train_rows, config.data.max_eval_rows, config.train.batch_size) = (256, 64, 8);
    config.train.max_steps = asked.steps;
    (config.eval.eval_steps, config.eval.random_routes) = ((asked.steps / 4).max(1), 3);
    let mut run = Run::start(prepare(&config)?)?;
    run.go(&mut NullObserver, &Control::default())?;
    Ok(run.dir().path().to_owned())
}

/// Opens the run and asks about it, so that the views have something to show.
fn fill(studio: &mut Studio, run: &Path) -> Result<()> {
    studio.until("the run", |window| window.app.session.opened.is_some())?;
    studio.until("the plan", |window| !window.app.session.preflight.is_pending())?;
    let writes = studio.window.app.session.shown().is_some_and(|run| run.writes());
    let subject = || Subject::Saved { dir: run.to_owned(), checkpoint: Checkpoint::Best };
    let ask = |studio: &Studio, query| studio.window.app.actions.push(Action::Query(subject(), query));
    ask(studio, ModelQuery::Compare { random_routes: 3 });
    ask(studio, ModelQuery::Inspect { site: 0, side: Side::Down });
    let first = if writes { ExportTarget::Peft } else { ExportTarget::Merged };
    let (merge, dtype) = (MergePlan::Uniform, NumberFormat::F32);
    ask(studio, ModelQuery::Export(ExportPlan { targets: vec![first], dtype, merge, dir: None }));
    let row = TryInput::Row { split: Split::Evaluation, row: 0 };
    let (step, seed) = (studio.window.app.session.shown().map_or(1, |run| run.step()), 0);
    for study in [
        Study::Replay(ReplayPlan { step }),
        Study::Reroll(RerollPlan { step, routes: RerollPlan::ROUTES }),
        Study::Routes(RoutesPlan::default()),
        Study::Fan(FanPlan { input: row.clone(), routes: FanPlan::ROUTES, seed }),
        Study::Grid(GridPlan { input: row, module: 0, route: 0, seed }),
    ] {
        ask(studio, ModelQuery::Study(study));
    }
    studio.window.app.actions.push(Action::ToggleOverlay(run.to_owned()));
    studio.until("the answers", |window| {
        let session = &window.app.session;
        let overlays = session.overlays.values().all(|query| query.value.is_some() || query.error.is_some());
        !session.job_pending() && session.compare.value.is_some() && overlays
    })?;
    // Notices go away: they are no part of a view.
    (0..NOTICES).for_each(|_| drop(studio.frame(1.0)));
    Ok(())
}

/// The window, and the textures its meshes are drawn with.
struct Studio {
    window: Headless,
    textures: raster::Textures,
}

impl Studio {
    /// The next frame, so many seconds later.
    fn frame(&mut self, seconds: f64) -> DrawnFrame {
        let frame = self.window.frame(seconds);
        self.textures.update(&frame.textures);
        frame
    }

    /// Draws frames until something has happened.
    fn until(&mut self, what: &str, happened: impl Fn(&Headless) -> bool) -> Result<()> {
        let began = Instant::now();
        // The first frames send what is asked for.
        let mut frames = 0;
        while frames < 4 || !happened(&self.window) {
            self.frame(FRAME);
            frames += 1;
            std::thread::sleep(Duration::from_millis(10));
            if began.elapsed() > PATIENCE {
                let log: Vec<&str> = self.window.app.session.log.iter().map(|line| line.text.as_str()).collect();
                return Err(Error::internal(format!("{what} did not come: {}", log.join("; "))));
            }
        }
        Ok(())
    }

    /// The picture once everything asked for by the view has come and nothing moves any more.
    fn settle(&mut self, [width, height]: [usize; 2]) -> Result<Canvas> {
        (0..SETTLE).for_each(|_| drop(self.frame(FRAME)));
        self.until("what the view asks for", |window| window.app.session.job().is_none())?;
        (0..SETTLE).for_each(|_| drop(self.frame(FRAME)));
        let frame = self.frame(FRAME);
        let mut canvas = Canvas::new(width, height);
        canvas.draw(&frame, &self.textures);
        Ok(canvas)
    }
}
