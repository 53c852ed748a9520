//! Running layers again in the backward pass changes no bit of any gradient, whatever is trained and however it is routed.

use crate::support::place::Place;
use crate::support::tiny;
use adamix::config::{Method, Problem, Recompute, RoutingPolicy, RunConfig};
use adamix::machine::estimate;
use adamix::model::{Classifier, DropKeys, Family, ForwardOptions, Network as _};
use adamix::nn::profile::{Phase, Recording};
use adamix::nn::{Grads, ParamId};
use adamix::rng::SeedStream;
use adamix::tensor::{HostTensor, Tensor};
use adamix::train::Trainable as _;
use adamix::train::checkpoint::host_tensors;
use adamix::train::optimizer::AdamW;
use adamix::train::step::{self, StepIndex};
use adamix::train::{Control, ModelAndData, NullObserver, Trainer};
use adamix::workflow::preflight;
use adamix::workflow::run;
use adamix::workflow::run::Run as TrainingRun;

fn bits(model: &Classifier, grads: &Grads) -> Vec<(String, usize, Vec<u32>)> {
    let mut all = Vec::new();
    for (index, param) in model.params().iter().enumerate() {
        for expert in 0..param.experts {
            if let Some(grad) = grads.get(ParamId(index), expert) {
                let values: Vec<f32> = grad.flatten_all().unwrap().to_vec1().unwrap();
                all.push((param.name.clone(), expert, values.iter().map(|v| v.to_bits()).collect()));
            }
        }
    }
    all
}

/// Loss and gradients of one micro-batch, all in bits.
fn gradients(config: &RunConfig, family: Family, recompute: Recompute) -> (u64, Vec<(String, usize, Vec<u32>)>) {
    let mut config = config.clone();
    config.train.recompute = recompute;
    let model = tiny::classifier(&config, family, 2);
    let batch = tiny::task(7, Problem::Classification).train.batch(&[0, 1, 2, 3, 4, 5, 6]);
    let route = step::draw_route(&config, &model, model.size(&batch), 5);
    let (loss, grads) = step::forward_backward(&config, &model, &batch, route.as_ref(), 5).unwrap();
    (loss.read().unwrap().total.to_bits(), bits(&model, &grads))
}

#[test]
fn gradients_have_the_same_bits() {
    let mut cases: Vec<(Method, RoutingPolicy)> = RoutingPolicy::ALL.map(|policy| (Method::Adamix, policy)).into();
    cases.extend([(Method::Full, RoutingPolicy::PerBatch), (Method::HeadOnly, RoutingPolicy::PerBatch)]);
    for family in [Family::Bert, Family::Roberta] {
        for &(method, routing) in &cases {
            for dropout in [true, false] {
                let mut config = tiny::with_method(tiny::config(3), method);
                (config.mixture.routing, config.model.trunk_dropout) = (routing, dropout);
                let kept = gradients(&config, family, Recompute::Off);
                assert!(!kept.1.is_empty() && kept.1.iter().any(|(_, _, bits)| bits.iter().any(|&b| b << 1 != 0)));
                let again = gradients(&config, family, Recompute::On);
                assert_eq!(kept, again, "{family:?} {method:?} {routing:?}, dropout {dropout}");
            }
        }
    }
}

#[test]
fn every_token_of_the_last_layer_goes_the_same_way() {
    let config = tiny::config(3);
    let model = tiny::classifier(&config, Family::Roberta, 2);
    let batch = tiny::task(5, Problem::Classification).train.batch(&[0, 1, 2, 3, 4]);
    let route = step::draw_route(&config, &model, model.size(&batch), 0);
    let grads = |recompute: bool| {
        let drop = Some(DropKeys::new(SeedStream::new(1), 2));
        let run = ForwardOptions {
            passes: 2,
            route: route.as_ref(),
            drop,
            lora_drop: drop,
            all_tokens: true,
            keep: true,
            recompute,
        };
        let (y, trace) = model.base.forward(&batch, run).unwrap();
        let dy = Tensor::ones(y.shape(), y.dtype(), y.device()).unwrap();
        let mut grads = Grads::new(model.params());
        model.base.backward(trace.unwrap(), dy, &mut grads).unwrap();
        bits(&model, &grads)
    };
    assert_eq!(grads(false), grads(true));
}

#[test]
fn layers_run_again_only_when_asked() {
    let spent = |recompute: Recompute, method: Method| {
        let mut config = tiny::with_method(tiny::config(3), method);
        config.train.recompute = recompute;
        let model = tiny::classifier(&config, Family::Bert, 2);
        let batch = tiny::task(4, Problem::Classification).train.batch(&[0, 1, 2, 3]);
        let mut optimizer = AdamW::new(model.params()).unwrap();
        let recording = Recording::start();
        step::step(&config, &model, &mut optimizer, StepIndex::new(0, 1), |_| Ok(batch.clone())).unwrap();
        recording.take().time(Phase::Recompute)
    };
    assert!(!spent(Recompute::On, Method::Adamix).is_zero());
    assert!(spent(Recompute::Off, Method::Adamix).is_zero());
    // What is not settled keeps everything; and where nothing below the head is trained, nothing is run again.
    assert!(spent(Recompute::Auto, Method::Adamix).is_zero());
    assert!(spent(Recompute::On, Method::HeadOnly).is_zero());
}

#[test]
fn a_whole_training_has_the_same_bits() {
    let trained = |recompute: Recompute| {
        let mut config = tiny::config(3);
        (config.train.recompute, config.train.gradient_accumulation_steps) = (recompute, 2);
        let model = tiny::classifier(&config, Family::Roberta, 2);
        let mut trainer =
            Trainer::new(config, ModelAndData::Classifier(model, tiny::task(48, Problem::Classification))).unwrap();
        trainer.run(&mut NullObserver, &Control::default()).unwrap();
        let bits = |tensor: HostTensor| tensor.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        host_tensors(trainer.model()).unwrap().into_iter().map(bits).collect::<Vec<_>>()
    };
    assert_eq!(trained(Recompute::Off), trained(Recompute::On));
}

#[test]
fn a_run_keeps_what_was_asked_for_and_says_what_it_costs() {
    let place = Place::new();
    let mut config = place.config(4);
    // Four layers: with two there is nothing to gain.
    config.model.path = "lab".to_owned();
    let free = preflight::preflight(&config, false).unwrap();
    assert!(!free.recompute, "there is memory for a model of this size");
    config.train.recompute = Recompute::On;
    let asked = preflight::preflight(&config, false).unwrap();
    assert!(asked.recompute && asked.memory_bytes < free.memory_bytes && asked.memory_bytes > 0);
    let run = TrainingRun::start(run::prepare(&config).unwrap()).unwrap();
    assert!(!run.warnings().iter().any(|warning| warning.contains("recompute")), "{:?}", run.warnings());
    assert_eq!(run.trainer().config().train.recompute, Recompute::On);
    config.train.recompute = Recompute::Auto;
    config.name = "auto".to_owned();
    let run = TrainingRun::start(run::prepare(&config).unwrap()).unwrap();
    assert_eq!(run.trainer().config().train.recompute, Recompute::Off, "auto is settled when the run starts");
    assert_eq!(run.dir().config().train.recompute, Recompute::Auto, "and asked anew when it goes on elsewhere");
    // What is decided where memory is short, with this very model and these rows.
    let prepared = run::prepare(&config).unwrap();
    let short = estimate::settle(&config, &prepared.subject, Some(1000));
    assert_eq!(short.recompute, Recompute::On);
    assert!(short.note.unwrap().contains("memory is short"));
    let unknown = estimate::settle(&config, &prepared.subject, None);
    assert_eq!((unknown.recompute, unknown.note), (Recompute::Off, None));
}
