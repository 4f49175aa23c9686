//! A server of HTTP/1.1 that answers as a test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// From which byte on.
    pub(crate) range: Option<usize>,
    pub(crate) if_range: Option<String>,
    /// How many requests came before.
    pub(crate) number: usize,
}

/// What is answered.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    announced: usize,
    /// Whether the connection stays open, with nothing more to come.
    stalls: bool,
}

impl Reply {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), announced: body.len(), body, stalls: false }
    }

    pub(crate) fn whole(body: Vec<u8>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::new(200, text.as_bytes().to_vec())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, b"no".to_vec())
    }

    pub(crate) fn redirect(path: &str) -> Self {
        Self::new(302, Vec::new()).header(format!("Location: {path}"))
    }

    pub(crate) fn range(whole: Vec<u8>, from: usize) -> Self {
        let (last, all) = (whole.len() - 1, whole.len());
        Self::new(206, whole[from..].to_vec())
            .header(format!("Content-Range: bytes {from}-{last}/{all}"))
    }

    fn header(mut self, header: String) -> Self {
        self.headers.push(header);
        self
    }

    pub(crate) fn etag(self, mark: &str) -> Self {
        self.header(format!("ETag: {mark}"))
    }

    /// Ends after some bytes of what was announced.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }

    /// Sends some bytes and then nothing.
    pub(crate) fn stall(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self.stalls = true;
        self
    }

    /// Announces another length than comes.
    pub(crate) fn announce(mut self, length: usize) -> Self {
        self.announced = length;
        self
    }
}

/// A server that runs until the test's process ends.
pub(crate) struct Server {
    base: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (known, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (known, answer) = (Arc::clone(&known), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &known, answer.as_ref()));
            }
        });
        Self { base, requests }
    }

    pub(crate) fn base(&self) -> String {
        self.base.clone()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, known: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let (mut range, mut if_range) = (None, None);
    for line in lines.map(Result::unwrap).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("range") {
            let from = value.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap();
            range = Some(from.parse().unwrap());
        } else if name.eq_ignore_ascii_case("if-range") {
            if_range = Some(value.to_owned());
        }
    }
    let request = {
        let mut known = known.lock().unwrap();
        let request = Request { path, range, if_range, number: known.len() };
        known.push(request.clone());
        request
    };
    let reply = answer(&request);
    let mut stream = stream;
    let mut head =
        format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", reply.status, reply.announced);
    for header in &reply.headers {
        head += &format!("{header}\r\n");
    }
    head += "Connection: close\r\n\r\n";
    // A client that has gone is what some tests are about.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&reply.body)));
    if reply.stalls {
        drop(stream.flush());
        std::thread::sleep(Duration::from_secs(20));
    }
}
