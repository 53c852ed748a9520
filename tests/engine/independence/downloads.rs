//! Models are listed, fetched and removed beside everything else.

use super::Window;
use crate::support::hub::{Fault, HubServer, hub};
use crate::support::place::Place;
use adamix::model::HeaderReader;
use adamix::model_store::Hub;
use adamix::protocol::*;

struct Shop {
    place: Place,
    server: HubServer,
    hub: Hub,
}

impl Shop {
    fn open() -> Self {
        let (place, server) = (Place::new(), HubServer::start());
        server.put_dir("tiny/bert", &place.path("model"));
        let hub = hub(&place.path("hub"), &server.endpoint, "");
        Self { place, server, hub }
    }
}

fn ask(window: &mut Window, ask: StoreAsk) -> RequestId {
    window.send(Command::Store(ask))
}

fn cached(window: &mut Window) -> CacheInfo {
    let req = ask(window, StoreAsk::List);
    let Ok(Outcome::Store(answer)) = window.wait_for(req) else { panic!("no list") };
    let StoreAnswer::Cached(cached) = *answer else { panic!("another answer") };
    cached
}

fn told(window: &Window, req: RequestId) -> Vec<DownloadProgress> {
    let told = window.events.iter().filter_map(|event| match event {
        Event::Downloading(of, progress) if *of == req => Some(progress.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn training_goes_on_while_a_model_is_fetched_cancelled_and_fetched_again() {
    let shop = Shop::open();
    let mut window = Window::open_hub(&shop.hub);
    let start = window.start(&shop.place.config(100_000));
    window.wait("training", |w| w.phase() == RunPhase::Training && !w.steps.is_empty());

    shop.server.fail("model.safetensors", Fault::Slow, 1);
    let download = ask(&mut window, StoreAsk::Download("tiny/bert".to_owned()));
    let twice = ask(&mut window, StoreAsk::Download("tiny/bert".to_owned()));
    assert!(window.wait_for(twice).unwrap_err().message.contains("already"));
    window.wait("bytes", |w| told(w, download).iter().any(|told| told.number == 3 && told.done > 0));
    let busy = ask(&mut window, StoreAsk::Remove("tiny/bert".to_owned()));
    assert!(window.wait_for(busy).unwrap_err().message.contains("cancel that first"));
    let second = ask(&mut window, StoreAsk::Download("tiny/other".to_owned()));
    window.engine.control(ControlRequest::CancelDownload(second));
    assert_eq!(window.wait_for(second).unwrap_err().kind, ErrorKind::Cancelled, "it was still waiting");
    window.engine.control(ControlRequest::CancelDownload(download));
    assert_eq!(window.wait_for(download).unwrap_err().kind, ErrorKind::Cancelled);
    let half = cached(&mut window);
    assert!(half.models.len() == 1 && half.models[0].incomplete, "{half:?}");

    let again = ask(&mut window, StoreAsk::Download("tiny/bert".to_owned()));
    let Ok(Outcome::Store(answer)) = window.wait_for(again) else { panic!("no answer") };
    assert!(matches!(&*answer, StoreAnswer::Downloaded(done) if done.id == "tiny/bert" && done.path.is_dir()));
    assert!(shop.server.bodies().last().unwrap().1 > 0, "it began anew");
    assert_eq!(cached(&mut window).models[0].problem, None);

    let steps = window.steps.len();
    window.wait("more steps", |w| w.steps.len() > steps);
    assert_eq!(window.phase(), RunPhase::Training, "the training was disturbed");
    window.engine.control(ControlRequest::Stop("done".to_owned()));
    window.wait_for(start).unwrap();

    let removed = ask(&mut window, StoreAsk::Remove("tiny/bert".to_owned()));
    let Ok(Outcome::Store(answer)) = window.wait_for(removed) else { panic!("not removed") };
    assert!(matches!(*answer, StoreAnswer::Removed { bytes, .. } if bytes > 40_000));
    assert!(cached(&mut window).models.is_empty());
}

#[test]
fn refusals_are_answers_and_closing_leaves_a_part() {
    let shop = Shop::open();
    let mut window = Window::open_hub(&shop.hub);
    for (name, words) in [("no/where", "404"), ("../x", "org/name")] {
        let req = ask(&mut window, StoreAsk::Download(name.to_owned()));
        let refused = window.wait_for(req).unwrap_err();
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    shop.server.fail("model.safetensors", Fault::Slow, 1);
    let download = ask(&mut window, StoreAsk::Download("tiny/bert".to_owned()));
    window.wait("bytes", |w| told(w, download).iter().any(|told| told.number == 3 && told.done > 0));
    drop(window);
    let cached = shop.hub.scan(&HeaderReader);
    assert!(cached.models[0].incomplete, "{cached:?}");
}
