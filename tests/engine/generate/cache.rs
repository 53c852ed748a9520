//! Reading token by token gives what reading at once gives.

use super::{FAMILIES, load, mixture, values};
use crate::support::assert_close;
use adamix::config::MixtureKind;
use adamix::eval::generate::Routes;
use adamix::eval::generate::routes::{Router, TokenSpan};
use adamix::mixture::Route;
use adamix::model::decoder::cache::Extension;
use adamix::model::{CachedId, CausalLm, KvCache, Packed};
use adamix::rng::{Purpose, SeedStream};

/// Three texts, and how many tokens of each are read in each step; 0: the text waits.
const STEPS: [[usize; 3]; 5] = [[4, 1, 0], [1, 1, 5], [1, 0, 1], [3, 1, 2], [1, 6, 1]];

fn texts() -> [Vec<u32>; 3] {
    let mut stream = SeedStream::new(3).stream(Purpose::Sampling, 0);
    [0, 1, 2].map(|i| (0..STEPS.iter().map(|s| s[i]).sum()).map(|_| 3 + stream.below(29) as u32).collect())
}

/// Reads the texts in steps; hidden states of all tokens must equal those of reading each at once.
fn check(what: &str, model: &CausalLm, routes: Routes) {
    let texts = texts();
    let router = Router::new(model, routes, SeedStream::new(7)).unwrap();
    let mut cache = KvCache::new(&model.base);
    let ids: Vec<CachedId> = texts.iter().map(|_| cache.start()).collect();
    let (mut read, mut found) = ([0usize; 3], [const { Vec::new() }; 3]);
    for step in STEPS {
        let (mut new, mut strands) = (Vec::new(), Vec::new());
        for (i, &n) in step.iter().enumerate().filter(|(_, n)| **n > 0) {
            new.push(Extension { sequence: ids[i], ids: &texts[i][read[i]..read[i] + n] });
            strands.push(TokenSpan { text: i, lane: 0, first: read[i], new: n });
        }
        let route = router.route(&strands);
        let hidden = values(&model.base.extend(&mut cache, &new, true, route.as_ref()).unwrap());
        let mut at = 0;
        for strand in strands {
            let len = strand.new * model.base.spec.hidden_size;
            found[strand.text].extend_from_slice(&hidden[at..at + len]);
            read[strand.text] += strand.new;
            at += len;
        }
    }
    for (i, ids) in texts.iter().enumerate() {
        let route: Option<Route> = router.route(&[TokenSpan { text: i, lane: 0, first: 0, new: ids.len() }]);
        let run = adamix::model::ForwardOptions { route: route.as_ref(), ..adamix::model::ForwardOptions::eval() };
        let (want, _) = model.forward(Packed { ids, offsets: &[0, ids.len()] }, None, run).unwrap();
        assert_close(what, &found[i], &values(&want), 1e-5, 1e-5);
    }
    assert_eq!(cache.occupancy().0, texts.iter().map(Vec::len).sum::<usize>());
    ids.into_iter().for_each(|id| cache.forget(id));
    assert_eq!(cache.occupancy().0, 0);
}

#[test]
fn every_family_reads_in_steps_what_it_reads_at_once() {
    for family in FAMILIES {
        check(family, &load(family, None), Routes::Plain);
    }
}

#[test]
fn experts_run_in_steps_as_at_once() {
    for family in ["gpt2", "llama"] {
        for kind in [MixtureKind::Lora, MixtureKind::Adapter] {
            let mixture = mixture(kind);
            let model = load(family, Some(&mixture));
            for routes in [Routes::Expert(1), Routes::Whole(3), Routes::PerText, Routes::PerToken] {
                check(&format!("{family} {kind:?} {routes:?}"), &model, routes);
            }
            check(family, &model.merged_own().unwrap(), Routes::Plain);
        }
    }
}

#[test]
fn a_text_that_goes_on_in_two_ways_shares_its_beginning() {
    let model = load("llama", None);
    let mut cache = KvCache::new(&model.base);
    let one = cache.start();
    let extend = |cache: &mut KvCache, new: &[(CachedId, &[u32])]| {
        let new: Vec<Extension<'_>> = new.iter().map(|&(sequence, ids)| Extension { sequence, ids }).collect();
        values(&model.extend(cache, &new, None).unwrap())
    };
    extend(&mut cache, &[(one, &[5, 6, 7])]);
    let two = cache.fork(one).unwrap();
    assert_eq!(cache.occupancy(), (3, 3));
    let both = extend(&mut cache, &[(one, &[8]), (two, &[9])]);
    assert_eq!((cache.occupancy(), cache.tokens(two).unwrap()), ((5, 5), 4));
    let vocab = model.base.spec.vocab_size;
    for (last, found) in [(8, &both[..vocab]), (9, &both[vocab..])] {
        let ids = [5, 6, 7, last];
        let want = model.logits(Packed { ids: &ids, offsets: &[0, 4] }, Some(&[3]), None).unwrap();
        assert_close("fork", found, &values(&want), 1e-5, 1e-5);
    }
    // What one alone used is free again and used by the next.
    cache.forget(one);
    assert_eq!(cache.occupancy(), (4, 5));
    let three = cache.start();
    extend(&mut cache, &[(three, &[4]), (two, &[10])]);
    assert_eq!(cache.occupancy(), (6, 6));
    let ids = [5, 6, 7, 9, 10, 11];
    let found = extend(&mut cache, &[(two, &[11])]);
    let want = model.logits(Packed { ids: &ids, offsets: &[0, 6] }, Some(&[5]), None).unwrap();
    assert_close("after another was forgotten", &found, &values(&want), 1e-5, 1e-5);
}

#[test]
fn steps_that_cannot_be_are_refused_and_leave_nothing_behind() {
    let model = load("mistral", None);
    let mut cache = KvCache::new(&model.base);
    let one = cache.start();
    let mut refused = |new: &[(CachedId, &[u32])], part: &str| {
        let new: Vec<Extension<'_>> = new.iter().map(|&(sequence, ids)| Extension { sequence, ids }).collect();
        let err = model.extend(&mut cache, &new, None).unwrap_err().to_string();
        assert!(err.contains(part), "{err}");
        assert_eq!((cache.tokens(one).unwrap(), cache.occupancy().0), (0, 0));
    };
    refused(&[(one, &[5; 17])], "a text of 17 tokens; this model takes 16");
    refused(&[(one, &[32])], "token id 32 is outside");
    refused(&[(one, &[])], "without a token");
    refused(&[(one, &[1]), (one, &[2])], "twice in a step");
    refused(&[], "0 sequences");
    let mixture = mixture(MixtureKind::Lora);
    let routed = load("mistral", Some(&mixture));
    let new = [Extension { sequence: one, ids: &[1, 2] }];
    let err = routed.extend(&mut cache, &new, None).unwrap_err().to_string();
    assert!(err.contains("without a route"), "{err}");
    assert_eq!((cache.tokens(one).unwrap(), cache.occupancy().0), (0, 0), "a failed step is taken back");
    cache.forget(one);
    assert!(cache.tokens(one).is_err() && cache.fork(one).is_err());
    assert!(model.extend(&mut cache, &new, None).is_err());
}
