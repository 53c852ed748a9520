//! A hub on this machine: the part of the hub's protocol that downloads need, and everything that can go wrong with it.

use adamix::model_store::Hub;
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// This cache and this server; an empty token is none.
pub fn hub(cache: &Path, endpoint: &str, token: &str) -> Hub {
    let variables =
        [("HF_HUB_CACHE", cache.as_os_str()), ("HF_ENDPOINT", endpoint.as_ref()), ("HF_TOKEN", token.as_ref())];
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    Hub::from_variables(variable).unwrap()
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The answer has this status.
    Status(u16),
    /// The connection is closed after so many bytes of the body.
    Break(usize),
    /// Nothing comes after so many bytes of the body, and the connection stays open.
    Silence(usize),
    /// One byte of the body is another one.
    Wrong,
    /// The whole file comes, whatever part was asked for.
    NoRange,
    /// As [`Fault::NoRange`] and [`Fault::Break`].
    BreakWhole(usize),
    /// Some bytes of the body at a time, with a pause in between: longer than any test waits.
    Slow,
    /// The etag is this.
    Etag(&'static str),
    /// So many bytes more than announced come.
    Surplus(usize),
    /// It is redirected to itself.
    Loop,
    /// The answer is a text of so many bytes.
    Long(usize),
}

/// Whether only requests for contents are meant, and not those for size and etag.
fn of_bodies(fault: Fault) -> bool {
    !matches!(fault, Fault::Status(_) | Fault::Etag(_) | Fault::Loop | Fault::Long(_))
}

#[derive(Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    faults: Vec<(String, Fault, usize)>,
    requests: Vec<Request>,
    token: Option<String>,
}

#[derive(Clone, Default)]
struct Repo {
    commit: String,
    files: BTreeMap<String, Vec<u8>>,
    /// Announced sizes that are not the real ones.
    claims: BTreeMap<String, u64>,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only the headers are asked for.
    pub head: bool,
    pub path: String,
    pub range: Option<(u64, Option<u64>)>,
    pub token: Option<String>,
}

impl Request {
    /// Whether contents were asked for, and not only size and etag.
    pub fn is_body(&self) -> bool {
        (self.path.contains("/resolve") || self.path.starts_with("/cdn/")) && !self.head
    }
}

/// The server; it ends when this is dropped.
pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl HubServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, ended): (Arc<Mutex<State>>, Arc<AtomicBool>) = Default::default();
        let (shared, over) = (state.clone(), ended.clone());
        let accept = move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (state, over) = (shared.clone(), over.clone());
                let serve = move || serve(&stream.unwrap(), &state, &over);
                thread::Builder::new().name("hub-connection".to_owned()).spawn(serve).unwrap();
            }
        };
        thread::Builder::new().name("hub".to_owned()).spawn(accept).unwrap();
        Self { endpoint: format!("http://{address}"), state, ended }
    }

    /// Puts a repository with these files onto the hub; its commit is 40 times `letter`.
    pub fn put(&self, repo: &str, letter: char, files: &[(&str, Vec<u8>)]) {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let commit = std::iter::repeat_n(letter, 40).collect();
        self.state.lock().repos.insert(repo.to_owned(), Repo { commit, files, ..Repo::default() });
    }

    /// The tiny model of a directory, with a README and the formats that nobody here needs.
    pub fn put_dir(&self, repo: &str, dir: &Path) {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
            .collect();
        for name in ["README.md", "pytorch_model.bin", "onnx/model.onnx", ".gitattributes"] {
            files.push((name.to_owned(), name.as_bytes().to_vec()));
        }
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        self.put(repo, 'a', &files);
    }

    /// Announces another size of a file than it has.
    pub fn claim(&self, repo: &str, file: &str, bytes: u64) {
        self.state.lock().repos.get_mut(repo).unwrap().claims.insert(file.to_owned(), bytes);
    }

    /// Something goes wrong with the next `times` requests whose path contains `part`.
    pub fn fail(&self, part: &str, fault: Fault, times: usize) {
        self.state.lock().faults.push((part.to_owned(), fault, times));
    }

    /// Everything goes well again.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// Only requests with this token are answered.
    pub fn require(&self, token: &str) {
        self.state.lock().token = Some(token.to_owned());
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// Where the contents of files were asked for from, in order.
    pub fn bodies(&self) -> Vec<(String, u64)> {
        let file = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let bodies = self.requests().into_iter().filter(Request::is_body);
        // A redirected request comes twice; the second one counts.
        let answered = bodies.filter(|request| !request.path.contains("/resolve/"));
        answered.map(|request| (file(&request.path), request.range.map_or(0, |(from, _)| from))).collect()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        TcpStream::connect(self.endpoint.trim_start_matches("http://")).ok(); // wakes it
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn git_sha(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()).as_bytes());
    hash.update(bytes);
    hex(&hash.finalize())
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf", ".bin", ".onnx"].iter().any(|ending| name.ends_with(ending))
}

fn serve(stream: &TcpStream, state: &Mutex<State>, over: &AtomicBool) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().replace("%20", " ");
    let mut request = Request { head: first.starts_with("HEAD "), path, ..Request::default() };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (from, to) = value.trim().trim_start_matches("bytes=").split_once('-').unwrap();
                request.range = Some((from.parse().unwrap(), to.parse().ok()));
            }
            "authorization" => request.token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let (fault, answer) = {
        let mut state = state.lock();
        state.requests.push(request.clone());
        let body = request.is_body() && !request.path.contains("/resolve/");
        let hit = state.faults.iter_mut().find(|(part, fault, times)| {
            *times > 0 && request.path.contains(part.as_str()) && (body || !of_bodies(*fault))
        });
        let fault = hit.map(|(_, fault, times)| {
            *times -= 1;
            *fault
        });
        (fault, answer(&state, &request, fault))
    };
    send(stream, &answer, request.head, fault, over);
    stream.shutdown(Shutdown::Both).ok();
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn status(status: u16, words: &str) -> Answer {
    let headers = vec![("x-error-message", words.to_owned())];
    Answer { status, headers, body: words.as_bytes().to_vec() }
}

fn answer(state: &State, request: &Request, fault: Option<Fault>) -> Answer {
    match fault {
        Some(Fault::Status(code)) => return status(code, "as the test wants it"),
        Some(Fault::Loop) => {
            return Answer { status: 302, headers: vec![("location", request.path.clone())], body: Vec::new() };
        }
        Some(Fault::Long(bytes)) => return Answer { status: 200, headers: Vec::new(), body: vec![b' '; bytes] },
        _ => {}
    }
    let path = request.path.split('?').next().unwrap();
    let is_cdn = path.starts_with("/cdn/");
    if state.token.is_some() && request.token != state.token && !is_cdn {
        return status(401, "Invalid username or password.");
    }
    let found = state.repos.iter().find_map(|(name, repo)| {
        let rest = path.strip_prefix(&format!("/api/models/{name}/revision/"));
        let rest = rest.map(|rest| ("info", rest));
        let resolve = path.strip_prefix(&format!("/{name}/resolve/")).map(|rest| ("resolve", rest));
        let cache = path.strip_prefix(&format!("/api/resolve-cache/models/{name}/")).map(|rest| ("cache", rest));
        let cdn = path.strip_prefix(&format!("/cdn/{name}/")).map(|rest| ("cdn", rest));
        rest.or(resolve).or(cache).or(cdn).map(|(kind, rest)| (name, repo, kind, rest))
    });
    let Some((name, repo, kind, rest)) = found else { return status(404, "Repository not found") };
    let (revision, file) = rest.split_once('/').unwrap_or((rest, ""));
    if revision != "main" && revision != repo.commit {
        return status(404, "Invalid rev id");
    }
    if kind == "info" {
        return info(repo);
    }
    let Some(bytes) = repo.files.get(file) else { return status(404, "Entry not found") };
    let mut headers = vec![("x-repo-commit", repo.commit.clone())];
    let etag = |own: String| match fault {
        Some(Fault::Etag(etag)) => format!("\"{etag}\""),
        _ => format!("\"{own}\""),
    };
    match (kind, is_large(file)) {
        ("resolve", true) => {
            headers.push(("x-linked-etag", etag(sha256(bytes))));
            headers.push(("x-linked-size", bytes.len().to_string()));
            headers.push(("location", format!("@/cdn/{name}/{revision}/{file}")));
            Answer { status: 302, headers, body: Vec::new() }
        }
        ("resolve", false) => {
            headers.push(("location", format!("/api/resolve-cache/models/{name}/{revision}/{file}")));
            Answer { status: 307, headers, body: Vec::new() }
        }
        _ => {
            headers.push(("etag", etag(git_sha(bytes))));
            ranged(bytes, request, fault, headers)
        }
    }
}

fn ranged(bytes: &[u8], request: &Request, fault: Option<Fault>, mut headers: Vec<(&'static str, String)>) -> Answer {
    let size = bytes.len() as u64;
    let range = request.range.filter(|_| !matches!(fault, Some(Fault::NoRange | Fault::BreakWhole(_))));
    let (from, to) = range.map_or((0, size), |(from, to)| (from, to.map_or(size, |to| to + 1).min(size)));
    if range.is_some() && from >= size {
        return status(416, "Range not satisfiable");
    }
    let mut body = bytes[from as usize..to as usize].to_vec();
    match fault {
        Some(Fault::Wrong) => {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        Some(Fault::Surplus(more)) => body.resize(body.len() + more, 0),
        _ => {}
    }
    if range.is_none() {
        return Answer { status: 200, headers, body };
    }
    headers.push(("content-range", format!("bytes {from}-{}/{size}", to - 1)));
    Answer { status: 206, headers, body }
}

fn info(repo: &Repo) -> Answer {
    let files = repo.files.iter().map(|(name, bytes)| {
        let size = repo.claims.get(name).copied().unwrap_or(bytes.len() as u64);
        let mut file = serde_json::json!({ "rfilename": name, "size": size, "blobId": git_sha(bytes) });
        if is_large(name) {
            file["lfs"] = serde_json::json!({ "sha256": sha256(bytes), "size": size, "pointerSize": 130 });
        }
        file
    });
    let json = serde_json::json!({ "sha": repo.commit, "siblings": files.collect::<Vec<_>>() });
    let headers = vec![("content-type", "application/json".to_owned())];
    Answer { status: 200, headers, body: json.to_string().into_bytes() }
}

fn send(mut stream: &TcpStream, answer: &Answer, head: bool, fault: Option<Fault>, over: &AtomicBool) {
    let own = stream.local_addr().unwrap();
    let mut top = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        // A location that starts with @ is on another server as far as clients can see.
        let value =
            value.strip_prefix('@').map_or(value.clone(), |path| format!("http://localhost:{}{path}", own.port()));
        let value = if *name == "location" { value.replace(' ', "%20") } else { value };
        top.push_str(&format!("{name}: {value}\r\n"));
    }
    top.push_str(&format!("content-length: {}\r\n\r\n", answer.body.len()));
    let mut body = if head { Default::default() } else { answer.body.as_slice() };
    if let Some(Fault::Break(bytes) | Fault::BreakWhole(bytes) | Fault::Silence(bytes)) = fault {
        body = &body[..bytes.min(body.len())];
    }
    // A client that has gone away is what some tests are about.
    let mut write = |bytes: &[u8]| stream.write_all(bytes).and_then(|()| stream.flush()).is_ok();
    if !write(top.as_bytes()) {
        return;
    }
    let piece = if fault == Some(Fault::Slow) { 64 } else { 1 << 16 };
    for piece in body.chunks(piece) {
        if !write(piece) || over.load(Ordering::SeqCst) {
            return;
        }
        if fault == Some(Fault::Slow) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    while matches!(fault, Some(Fault::Silence(_))) && !over.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10));
    }
}
