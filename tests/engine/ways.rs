//! Ways of merging: what they make, what they cost, and that exports of them are what was scored.

use crate::support::cli::adamix;
use crate::support::place::Place;
use crate::support::texts::TextPlace;
use crate::support::{assert_close, fill, tiny};
use adamix::artifact::{export, import};
use adamix::config::{MixtureKind, Pairs, RunConfig};
use adamix::eval::Measured as _;
use adamix::eval::compare;
use adamix::mixture::{Adapter, MergeWeights, MergedModule, Route, RowMap, Side, Tap};
use adamix::model::{Classifier, Family, Network as _, Site};
use adamix::nn::Act;
use adamix::protocol::{Average, Checkpoint, ExportPlan, ExportReport, ExportTarget, MergePlan, NumberFormat};
use adamix::rng::{Purpose, SeedStream};
use adamix::tensor::{DType, Device, HostTensor, Tensor, to_f32};
use adamix::train::checkpoint::set_tensors;
use adamix::train::{Control, ModelAndData, NullObserver};
use adamix::workflow::run::{self, Run};
use adamix::workflow::saved_run::Opened;
use adamix::workflow::snapshot::Banks;

fn random(shape: (usize, usize), seed: u64) -> Tensor {
    let values = SeedStream::new(seed).stream(Purpose::Sampling, 1).normal_vec(shape.0 * shape.1, 1.0);
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The mean over pairs of experts of what a module gives for x, each pair run as a route of its own.
fn mean_output(site: Site<'_>, sites: usize, number: usize, x: &Tensor, pairs: &[[usize; 2]]) -> Vec<f64> {
    use adamix::records::Pick;
    let (n, d) = x.dims2().unwrap();
    let rows = RowMap::tokens(&[0, n], 1);
    let mut mean = Vec::new();
    for pair in pairs {
        let pick = |side: Side| {
            let expert = if site.bank(side).experts() == 1 { 0 } else { pair[side as usize] };
            Pick::One(expert as u8)
        };
        let picks = (0..sites).flat_map(|_| [pick(Side::Down), pick(Side::Up)]).collect();
        let route = Route { passes: 1, sites, picks };
        let out = match site {
            Site::Adapter(mixture) => mixture.forward(x, &route, number, &rows).unwrap().0,
            Site::Lora(mixture) => {
                let onto = Tensor::zeros((n, 3 * d), DType::F32, &Device::Cpu).unwrap();
                mixture.forward(x, onto, (&route, number), &rows, adamix::nn::Dropout::none()).unwrap().0
            }
        };
        let out = to_f32(&out).unwrap();
        mean.resize(out.len(), 0.0);
        mean.iter_mut().zip(&out).for_each(|(mean, out)| *mean += f64::from(*out) / pairs.len() as f64);
    }
    mean
}

fn output(module: &MergedModule, x: &Tensor) -> Vec<f32> {
    let (n, d) = x.dims2().unwrap();
    let rows = RowMap::tokens(&[0, n], 1);
    let out = match module {
        MergedModule::Adapter(adapter) => adapter.forward(x, &rows),
        MergedModule::Lora(lora) => {
            lora.forward(x, Tensor::zeros((n, 3 * d), DType::F32, &Device::Cpu).unwrap(), &rows)
        }
    };
    to_f32(&out.unwrap()).unwrap()
}

fn wide(site: Site<'_>, pairs: Pairs) -> MergedModule {
    match site {
        Site::Adapter(mixture) => MergedModule::Adapter(mixture.wide(pairs).unwrap()),
        Site::Lora(mixture) => MergedModule::Lora(mixture.wide(pairs).unwrap()),
    }
}

fn uniform(site: Site<'_>) -> MergedModule {
    match site {
        Site::Adapter(mixture) => MergedModule::Adapter(mixture.merge(&[0.25; 4]).unwrap()),
        Site::Lora(mixture) => MergedModule::Lora(mixture.merge(&[0.25; 4]).unwrap()),
    }
}

fn off(got: &[f32], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max)
}

#[test]
fn a_wide_module_gives_the_mean_of_its_experts_outputs() {
    let same: Vec<[usize; 2]> = (0..4).map(|j| [j, j]).collect();
    let all: Vec<[usize; 2]> = (0..4).flat_map(|j| (0..4).map(move |k| [j, k])).collect();
    for kind in [MixtureKind::Adapter, MixtureKind::Lora] {
        for (down, up) in [(false, true), (true, false), (false, false)] {
            let mut config = tiny::config(5);
            (config.mixture.kind, config.mixture.sharing_down, config.mixture.sharing_up) = (kind, down, up);
            (config.mixture.lora_rank, config.mixture.lora_alpha) = (3, 5.0);
            let model = tiny::classifier(&config, Family::Bert, 3);
            fill(model.params(), 0.4);
            let (sites, x) = (model.sites(), random((9, 16), 3));
            let lora = kind == MixtureKind::Lora;
            for (number, site) in sites.iter().enumerate() {
                if let Site::Lora(mixture) = site {
                    assert!((mixture.scale() - 5.0 / 3.0).abs() < 1e-12, "a scale other than 1");
                }
                for (pairs, list) in [(Pairs::Same, &same), (Pairs::All, &all)] {
                    let want = mean_output(*site, sites.len(), number, &x, list);
                    let module = wide(*site, pairs);
                    assert_eq!(module.width(), MergePlan::Wide(pairs).width(&config.mixture), "{kind:?} {down} {up}");
                    let got = output(&module, &x);
                    assert!(off(&got, &want) < 2e-5, "{kind:?} {down} {up} {pairs:?}: off by {}", off(&got, &want));
                    // The control: the mean of factors is the same only where averaging commutes.
                    let apart = off(&output(&uniform(*site), &x), &want);
                    let commutes = if lora { down || up || pairs == Pairs::All } else { down };
                    assert!(
                        if commutes { apart < 2e-5 } else { apart > 1e-2 },
                        "{kind:?} {down} {up} {pairs:?}: {apart}"
                    );
                }
            }
        }
    }
}

/// A run with a few steps behind it.
fn trained(place: &Place, change: impl FnOnce(&mut RunConfig)) -> Opened {
    let mut config = place.config(8);
    config.mixture.num_experts = 3;
    change(&mut config);
    let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
    run.go(&mut NullObserver, &Control::default()).unwrap();
    let dir = run.dir().clone();
    drop(run);
    Opened::open(&dir, Checkpoint::Last).unwrap()
}

fn exported(opened: &Opened, targets: &[ExportTarget], merge: &MergePlan) -> Vec<ExportReport> {
    let plan = ExportPlan { targets: targets.to_vec(), dtype: NumberFormat::F32, merge: merge.clone(), dir: None };
    opened.export(&plan).unwrap()
}

fn classifier(opened: &Opened) -> &Classifier {
    let ModelAndData::Classifier(model, _) = &opened.subject else { panic!("no classifier") };
    model
}

/// A model of one expert made of nothing but the run's settings and the tensors of an export.
pub fn read_back(opened: &Opened, report: &ExportReport, width: usize) -> ModelAndData {
    let mut config = opened.config.clone();
    config.mixture = config.mixture.of_rank(width);
    config.mixture.num_experts = 1;
    (config.mixture.sharing_down, config.mixture.sharing_up) = (false, false);
    let subject = run::prepare(&config).unwrap().subject;
    let read = export::read(&report.dir).unwrap().tensors;
    let tensors: Vec<HostTensor> = subject
        .model()
        .params()
        .iter()
        .map(|param| {
            let found = read.iter().find(|tensor| tensor.name == param.name).unwrap();
            HostTensor::new(param.name.clone(), param.value.dims(), found.data.clone()).unwrap()
        })
        .collect();
    set_tensors(subject.model(), &tensors).unwrap();
    subject
}

#[test]
fn every_way_is_exported_as_it_was_scored() {
    for (kind, up) in [(MixtureKind::Adapter, true), (MixtureKind::Adapter, false), (MixtureKind::Lora, false)] {
        let place = Place::new();
        let opened = trained(&place, |config| {
            (config.mixture.kind, config.mixture.sharing_up) = (kind, up);
            (config.mixture.lora_rank, config.mixture.lora_alpha) = (2, 5.0);
        });
        let mixture = &opened.config.mixture;
        let (r, counts) = (mixture.rank(), classifier(&opened).counts());
        let mut scores = Vec::new();
        for plan in MergePlan::methods(mixture) {
            let report = opened.merge(&plan).unwrap();
            assert_eq!((report.width, &report.plan), (plan.width(mixture), &plan));
            assert_eq!(report.parameters == counts.merged, report.width == r, "{plan}: {}", report.parameters);
            assert_eq!(report.found.is_some(), plan == MergePlan::Soup);
            let whole = if kind == MixtureKind::Lora { ExportTarget::Peft } else { ExportTarget::AdapterHub };
            for files in exported(&opened, &[ExportTarget::Merged, whole], &plan) {
                let proof = &files.certificate;
                assert!(proof.passed, "{plan} {:?}: {:?}", files.target, proof.problems);
                assert!(proof.probe.max_abs_delta.unwrap() < 1e-6 && proof.worst_tensor.is_none());
                assert_eq!(proof.merge.as_ref().unwrap().method, plan.method());
                if files.target == ExportTarget::Peft {
                    assert_eq!(import::peft::read(&files.dir).unwrap().rank, report.width);
                }
                if files.target == ExportTarget::Merged {
                    let back = read_back(&opened, &files, report.width);
                    let opts = back.options(&opened.config, &|_| true);
                    let again = back.evaluate(&MergeWeights::uniform(1), &opts).unwrap();
                    assert_eq!(again.loss.to_bits(), report.scores.loss.to_bits(), "{plan} of {kind:?}");
                }
            }
            scores.push((plan, report.scores.loss));
        }
        let uniform = scores[0].1;
        for (plan, loss) in &scores[1..] {
            let other = (loss - uniform).abs() > 1e-7;
            let soup_of_all = *plan == MergePlan::Soup && !other;
            assert!(other || soup_of_all, "{plan} gives the very loss of the uniform mean");
        }
        // All experts are exported as they are, whatever the merge.
        let wide = MergePlan::Wide(Pairs::Same);
        let all = exported(&opened, &[ExportTarget::Experts], &wide).remove(0);
        assert!(all.certificate.passed && all.certificate.merge.is_none());
    }
}

#[test]
fn a_budget_of_all_is_the_wide_one_and_smaller_ones_are_smaller() {
    for kind in [MixtureKind::Adapter, MixtureKind::Lora] {
        let place = Place::new();
        let opened = trained(&place, |config| {
            (config.mixture.kind, config.mixture.sharing_up) = (kind, false);
            config.mixture.lora_rank = 4;
        });
        let budget = |width: usize| MergePlan::Budget { width, rows: 24 };
        let tensors = |plan: &MergePlan| {
            let report = exported(&opened, &[ExportTarget::Merged], plan).remove(0);
            export::read(&report.dir).unwrap().tensors
        };
        assert_eq!(tensors(&budget(12)), tensors(&MergePlan::Wide(Pairs::Same)));
        let mut last = 0;
        for width in [4, 7, 12] {
            let report = opened.merge(&budget(width)).unwrap();
            assert!(report.width == width && report.parameters > last, "{width}: {}", report.parameters);
            last = report.parameters;
            for tensor in tensors(&budget(width)) {
                let side = tensor.name.ends_with("down.weight") || tensor.name.ends_with("lora_a.weight");
                assert!(!side || tensor.shape[0] == width, "{} {:?}", tensor.name, tensor.shape);
            }
        }
        for (width, words) in [(3, "choose 4 (one expert's) to 12"), (13, "to 12 (all side by side)")] {
            let err = opened.merge(&budget(width)).unwrap_err().to_string();
            assert!(err.contains(words), "{err}");
        }
    }
}

/// The adapter of the lowest layer in an export.
fn lowest_adapter(opened: &Opened, plan: &MergePlan) -> Adapter {
    let report = exported(opened, &[ExportTarget::Merged], plan).remove(0);
    let tensors = export::read(&report.dir).unwrap().tensors;
    let find = |end: &str| {
        let found = tensors.iter().find(|tensor| tensor.name == format!("layers.0.ffn.{end}")).unwrap();
        Tensor::from_slice(&found.data, found.shape.as_slice(), &Device::Cpu).unwrap()
    };
    let side = |side: &str| (find(&format!("{side}.weight")), find(&format!("{side}.bias")));
    Adapter::new(&side("down"), &side("up"), Act::Gelu).unwrap()
}

#[test]
fn a_fitted_adapter_is_nearer_to_the_wide_one_than_the_mean_of_factors() {
    let place = Place::new();
    let opened = trained(&place, |config| config.mixture.sharing_up = false);
    // Below the lowest module nothing depends on the merge, so that its inputs are known.
    let model = classifier(&opened);
    let tap = Tap::new(1000);
    let tapped: Vec<MergedModule> = model
        .sites()
        .iter()
        .enumerate()
        .map(|(i, site)| if i == 0 { uniform3(*site).tapped(&tap) } else { uniform3(*site) })
        .collect();
    let ModelAndData::Classifier(_, task) = &opened.subject else { panic!("no classifier") };
    let rows: Vec<usize> = (0..task.train.len()).collect();
    let opts = opened.subject.options(&opened.config, &|_| true);
    model.with_modules(&tapped).unwrap().row_losses(&task.train, &rows, None, &opts).unwrap();
    let x = tap.take();
    let x = Tensor::from_vec(x.clone(), (x.len() / 20, 20), &Device::Cpu).unwrap();
    assert!(x.dims2().unwrap().0 > 400, "all tokens of 96 rows");
    let out = |plan: &MergePlan| {
        let rows = RowMap::tokens(&[0, x.dims2().unwrap().0], 1);
        to_f32(&lowest_adapter(&opened, plan).forward(&x, &rows).unwrap()).unwrap()
    };
    let target: Vec<f64> = out(&MergePlan::Wide(Pairs::Same)).into_iter().map(f64::from).collect();
    let distance =
        |plan: &MergePlan| out(plan).iter().zip(&target).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>().sqrt();
    let (mean, fitted) = (distance(&MergePlan::Uniform), distance(&MergePlan::Fitted { rows: 96 }));
    assert!(fitted < 0.5 * mean && mean > 1e-3, "fitted {fitted}, mean of factors {mean}");
    // Pruning comes nearer with each unit, and is nothing at the end.
    let pruned: Vec<f64> = [4, 8, 12].map(|width| distance(&MergePlan::Budget { width, rows: 96 })).to_vec();
    assert!(pruned[0] > pruned[1] && pruned[1] > pruned[2] && pruned[2] == 0.0, "{pruned:?}");
    // The same words twice: nothing is drawn.
    let twice = [0; 2].map(|_| exported(&opened, &[ExportTarget::Merged], &MergePlan::Fitted { rows: 96 }).remove(0));
    let [a, b] = twice.map(|report| export::read(&report.dir).unwrap().tensors);
    assert_eq!(a, b);
}

fn uniform3(site: Site<'_>) -> MergedModule {
    let Site::Adapter(mixture) = site else { panic!("no adapter") };
    MergedModule::Adapter(mixture.merge(&[1.0 / 3.0; 3]).unwrap())
}

#[test]
fn fisher_information_is_the_mean_squared_slope() {
    let place = Place::new();
    let opened = trained(&place, |_| {});
    let (model, rows) = (classifier(&opened), 3);
    let report = exported(&opened, &[ExportTarget::Merged], &MergePlan::Fisher { rows }).remove(0);
    let merged = export::read(&report.dir).unwrap().tensors;
    let ModelAndData::Classifier(_, task) = &opened.subject else { panic!("no classifier") };
    let chosen: Vec<usize> = (0..rows).map(|i| i * task.train.len() / rows).collect();
    let opts = opened.subject.options(&opened.config, &|_| true);
    let name = "layers.1.ffn.down.weight";
    let param = model.params().find(name).unwrap();
    let before = to_f32(&param.value).unwrap();
    let n = before.len() / 3;
    let losses = |values: &[f32], expert: usize| {
        let new = Tensor::from_slice(values, param.value.dims(), &Device::Cpu).unwrap();
        param.value.slice_set(&new, 0, 0).unwrap();
        let route = Route::fixed(&opened.config.mixture, model.sites().len(), expert);
        model.row_losses(&task.train, &chosen, Some(&route), &opts).unwrap()
    };
    let merged = merged.iter().find(|tensor| tensor.name == name).unwrap();
    let mut checked = 0;
    for i in (0..n).step_by(3) {
        let mut information = [0.0f64; 3];
        for (expert, information) in information.iter_mut().enumerate() {
            let step = 5e-2f32;
            let moved = |by: f32| {
                let mut values = before.clone();
                values[expert * n + i] += by;
                losses(&values, expert)
            };
            let slopes =
                moved(step).into_iter().zip(moved(-step)).map(|(up, down)| (up - down) / (2.0 * f64::from(step)));
            *information = slopes.map(|slope| slope * slope).sum::<f64>() / rows as f64;
        }
        let sum: f64 = information.iter().sum();
        if sum < 1e-7 {
            continue; // differences of rounding errors
        }
        let want: f64 = (0..3).map(|e| information[e] / sum * f64::from(before[e * n + i])).sum();
        let spread = (0..3).map(|e| (f64::from(before[e * n + i]) - want).abs()).fold(0.0, f64::max);
        let off = (f64::from(merged.data[i]) - want).abs();
        assert!(off < 0.05 * spread + 1e-6, "value {i}: {} instead of {want} (spread {spread})", merged.data[i]);
        checked += 1;
    }
    losses(&before, 0);
    assert!(checked >= 4, "{checked} values with a slope");
}

#[test]
fn a_soup_is_what_greedy_search_finds() {
    let place = Place::new();
    let opened = trained(&place, |_| {});
    let loss = |list: [f32; 3]| opened.merge(&MergePlan::Global(list.to_vec())).unwrap().scores.loss;
    let one = |e: usize| std::array::from_fn(|i| f32::from(u8::from(i == e)));
    let mut order: Vec<usize> = vec![0, 1, 2];
    order.sort_by(|&a, &b| loss(one(a)).total_cmp(&loss(one(b))));
    let mut soup: [f32; 3] = one(order[0]);
    let mut lowest = loss(soup);
    for &expert in &order[1..] {
        let mut next = soup;
        next[expert] = 1.0;
        if loss(next) < lowest {
            (soup, lowest) = (next, loss(next));
        }
    }
    let report = opened.merge(&MergePlan::Soup).unwrap();
    assert_eq!(report.scores.loss, lowest);
    let total: f32 = soup.iter().sum();
    let want: Vec<f64> = soup.iter().map(|w| f64::from(*w) / f64::from(total)).collect();
    assert_eq!(report.found, Some(want));
    // A soup is exported with the weights it found.
    let files = exported(&opened, &[ExportTarget::Merged], &MergePlan::Soup).remove(0);
    let recipe = files.certificate.merge.unwrap();
    assert_eq!(recipe.sites.is_empty(), total == 3.0, "{recipe:?}");
}

#[test]
fn ties_and_dare_work_on_the_changes_since_the_start() {
    let place = Place::new();
    let opened = trained(&place, |_| {});
    let now = Banks::of(classifier(&opened)).unwrap();
    let start = now.at_start(&opened.config);
    let (bank, begun) = (&now.sides[0], &start.sides[0]);
    let n = bank.weight.len() / 3;
    let read = |plan: &MergePlan| {
        let report = exported(&opened, &[ExportTarget::Merged], plan).remove(0);
        let tensors = export::read(&report.dir).unwrap().tensors;
        tensors.into_iter().find(|tensor| tensor.name == "layers.0.ffn.down.weight").unwrap().data
    };
    let change = |e: usize, i: usize| f64::from(bank.weight[e * n + i]) - f64::from(begun.weight[e * n + i]);
    let mean_start = |i: usize| (0..3).map(|e| f64::from(begun.weight[e * n + i])).sum::<f64>() / 3.0;
    let mut disagreeing = 0;
    let want: Vec<f32> = (0..n)
        .map(|i| {
            let changes: Vec<f64> = (0..3).map(|e| change(e, i)).collect();
            let sign = changes.iter().sum::<f64>().signum();
            let agreeing: Vec<f64> = changes.iter().copied().filter(|c| c * sign > 0.0).collect();
            disagreeing += usize::from(agreeing.len() < 3);
            (mean_start(i) + agreeing.iter().sum::<f64>() / agreeing.len().max(1) as f64) as f32
        })
        .collect();
    assert_close("TIES of all changes", &read(&MergePlan::Ties { density: 1.0 }), &want, 1e-6, 1e-7);
    assert!(disagreeing > 0, "the control: signs differ somewhere");
    // Without dropping, DARE is the mean of factors; with it, it is not, and a seed draws the same again.
    let mean: Vec<f32> = (0..n).map(|i| (0..3).map(|e| bank.weight[e * n + i]).sum::<f32>() / 3.0).collect();
    assert_close("DARE without drops", &read(&MergePlan::Dare { drop: 0.0, seed: 1 }), &mean, 1e-5, 1e-6);
    let drop = |seed| read(&MergePlan::Dare { drop: 0.5, seed });
    assert_eq!(drop(1), drop(1));
    assert_ne!(drop(1), drop(2));
}

#[test]
fn the_commands_merge_and_export_in_every_way() {
    let place = Place::new();
    let opened = trained(&place, |config| config.mixture.sharing_up = false);
    let run = opened.dir.path().to_str().unwrap().to_owned();
    for method in ["soup", "fisher:8", "ties:0.5", "dare:0.5:3", "wide", "wide:all", "budget:9:24", "fitted:24"] {
        let found =
            adamix(&place.path(""), &["merge", &run, "--checkpoint", "last", "--method", method, "--json"]).json();
        let found = found.last().unwrap();
        assert_eq!(found["method"], method.split(':').next().unwrap());
        let plan: MergePlan = method.parse().unwrap();
        assert_eq!(found["width"], plan.width(&opened.config.mixture));
        assert_eq!(found["scores"]["loss"].as_f64(), Some(opened.merge(&plan).unwrap().scores.loss), "{method}");
    }
    let text = adamix(&place.path(""), &["merge", &run, "--method", "wide"]);
    for words in ["wide", "[D_1; ...; D_M]", "width", "parameters", "12"] {
        assert!(text.done().contains(words), "{words}: {}", text.out);
    }
    let out = place.path("out");
    let arguments = ["export", &run, "--target", "all", "--method", "budget:9:24", "--output", out.to_str().unwrap()];
    let text = adamix(&place.path(""), &arguments);
    assert!(text.done().contains("proven") && !text.out.contains("NOT PROVEN"), "{}", text.out);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("adapterhub/adapter_config.json")).unwrap()).unwrap();
    let factor = config["config"]["reduction_factor"].as_f64().unwrap();
    assert_eq!((20.0 / factor).floor(), 9.0, "what the library makes of it");
    for (wrong, words) in [
        (&["--method", "mean"][..], "is no way of merging"),
        (&["--method", "budget:2"], "a budget of 2 hidden units"),
        (&["--method", "soup", "--weights", "1,1,1"], "cannot be used with"),
    ] {
        let all = [&["merge", run.as_str()], wrong].concat();
        let ran = adamix(&place.path(""), &all);
        assert!(ran.err.contains(words), "{wrong:?}: {}", ran.err);
    }
    let compared = compare::evaluate(
        &classifier(&opened).merged_own().unwrap(),
        match &opened.subject {
            ModelAndData::Classifier(_, task) => &task.dev,
            ModelAndData::Lm(..) => panic!("no classifier"),
        },
        None,
        &opened.subject.options(&opened.config, &|_| true),
    );
    assert_eq!(compared.unwrap(), opened.merge(&MergePlan::Uniform).unwrap().scores);
}

#[test]
fn every_way_of_a_language_model_is_scored_and_wide_ones_go_into_every_format() {
    for family in ["gpt2-tiny", "llama-tiny"] {
        let place = TextPlace::new(family);
        let mut config = place.config(4);
        (config.data.max_length, config.mixture.kind, config.mixture.num_experts) = (32, MixtureKind::Lora, 3);
        (config.mixture.lora_rank, config.mixture.lora_alpha, config.mixture.sharing_up) = (2, 5.0, false);
        let mut run = Run::start(run::prepare(&config).unwrap()).unwrap();
        run.go(&mut NullObserver, &Control::default()).unwrap();
        let dir = run.dir().clone();
        drop(run);
        let opened = Opened::open(&dir, Checkpoint::Last).unwrap();
        let mut losses = Vec::new();
        for plan in MergePlan::methods(&config.mixture) {
            let plan = match plan {
                MergePlan::Fisher { .. } => MergePlan::Fisher { rows: 4 },
                MergePlan::Fitted { .. } => MergePlan::Fitted { rows: 8 },
                other => other,
            };
            let report = opened.merge(&plan).unwrap();
            assert!(report.scores.loss.is_finite() && report.width == plan.width(&config.mixture), "{family} {plan}");
            losses.push(report.scores.loss);
        }
        assert!(losses.iter().skip(2).all(|loss| (loss - losses[0]).abs() > 1e-9), "{family}: {losses:?}");
        use ExportTarget as Target;
        let targets = [Target::Merged, Target::Peft, Target::GgufAdapter, Target::Hf];
        for plan in
            [MergePlan::Wide(Pairs::Same), MergePlan::Budget { width: 5, rows: 8 }, MergePlan::Fitted { rows: 8 }]
        {
            for files in exported(&opened, &targets, &plan) {
                let proof = &files.certificate;
                assert!(proof.passed, "{family} {plan} {:?}: {:?}", files.target, proof.problems);
                assert_eq!(proof.merge.as_ref().unwrap().method, plan.method());
            }
        }
        // The wide LoRA is the mean of the products, which the study of averages makes in its own way.
        let deltas = opened.averages().unwrap();
        let deltas = deltas.way(Average::Deltas).unwrap().scores.loss;
        assert_eq!(opened.merge(&MergePlan::Wide(Pairs::Same)).unwrap().scores.loss.to_bits(), deltas.to_bits());
    }
}
