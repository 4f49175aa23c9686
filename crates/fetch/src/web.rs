//! Requests.

use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use crate::FetchError;

/// Addresses that lead to other ones, one after another.
const MOST_REDIRECTS: u32 = 8;

/// What asks servers.
pub(crate) struct Web {
    pub(crate) patience: Duration,
}

/// Where a download is to go on, and what must be the same as before.
pub(crate) struct Resume<'a> {
    pub(crate) from: u64,
    pub(crate) validator: &'a str,
}

impl Web {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience }
    }

    fn agent(&self, url: &str, whole: Option<Duration>) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MOST_REDIRECTS)
            // What begins encrypted stays so, wherever it is redirected to.
            .https_only(url.starts_with("https://"))
            .timeout_connect(Some(self.patience))
            .timeout_recv_response(Some(self.patience))
            .timeout_recv_body(whole)
            .user_agent(concat!("kireji/", env!("CARGO_PKG_VERSION")))
            .build();
        Agent::new_with_config(config)
    }

    /// Asks for a file, or the rest of one.
    pub(crate) fn get(
        &self,
        url: &str,
        resume: Option<&Resume<'_>>,
    ) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent(url, None).get(url).header("Accept-Encoding", "identity");
        if let Some(Resume { from, validator }) = resume {
            request =
                request.header("Range", format!("bytes={from}-")).header("If-Range", *validator);
        }
        request.call().map_err(|source| failed(url, source))
    }

    /// Gets a small text. `None` if there is none.
    pub(crate) fn text(&self, url: &str, most: u64) -> Result<Option<String>, FetchError> {
        let agent = self.agent(url, Some(self.patience.saturating_mul(4)));
        let response = agent
            .get(url)
            .header("Accept-Encoding", "identity")
            .call()
            .map_err(|source| failed(url, source))?;
        match response.status().as_u16() {
            200 => {}
            // Stores of objects answer so for one that is not there, too.
            403 | 404 | 410 => return Ok(None),
            status => return Err(FetchError::Status { url: url.to_owned(), status }),
        }
        let text = response.into_body().into_with_config().limit(most).read_to_string();
        text.map(Some).map_err(|source| failed(url, source))
    }
}

pub(crate) fn failed(url: &str, source: ureq::Error) -> FetchError {
    FetchError::Request { url: url.to_owned(), source: Box::new(source) }
}
