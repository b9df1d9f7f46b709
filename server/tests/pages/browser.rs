//! A browser without scripts: cookies, links, forms, redirects.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Somebody at a screen.
pub struct Browser {
    client: reqwest::Client,
    base: String,
}

/// A page as it came.
pub struct Page {
    pub status: u16,
    /// Path and query, after redirects.
    pub path: String,
    pub headers: HeaderMap,
    pub html: String,
}

impl Browser {
    /// At `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("origin", HeaderValue::from_str(base).expect("because it is a URL"));
        headers.insert(HeaderName::from_static("sec-fetch-site"), HeaderValue::from_static("same-origin"));
        headers.insert("accept", HeaderValue::from_static("text/html"));
        let client = reqwest::Client::builder().cookie_store(true).default_headers(headers).no_proxy();
        Self { client: client.build().expect("because the options are sound"), base: base.to_owned() }
    }

    /// Opens a page.
    pub async fn open(&self, path: &str) -> Page {
        page(self.client.get(format!("{}{path}", self.base)).send().await.expect(path)).await
    }

    /// Submits the form of `page` with this action: its hidden and checked fields, with `fields` over
    /// them.
    pub async fn submit(&self, page_: &Page, action: &str, fields: &[(&str, &str)]) -> Page {
        let mut sent = page_.fields_of(action);
        sent.retain(|(known, _)| !fields.iter().any(|(name, _)| name == known));
        sent.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let request = self.client.post(format!("{}{action}", self.base)).form(&sent);
        page(request.send().await.expect(action)).await
    }

    /// Presses the button with these words, the first of them, in whose form nothing is typed.
    pub async fn press(&self, page_: &Page, words: &str) -> Page {
        let (action, sent) = page_.form_with(words);
        let request = self.client.post(format!("{}{action}", self.base)).form(&sent);
        page(request.send().await.expect(words)).await
    }

    /// Loads the page again, as its `<meta refresh>` says, until it no longer asks for that.
    pub async fn wait(&self, mut page: Page) -> Page {
        let until = Instant::now() + Duration::from_secs(120);
        while page.html.contains(r#"<meta http-equiv="refresh""#) {
            assert!(Instant::now() < until, "still working: {}", page.text());
            tokio::time::sleep(Duration::from_millis(100)).await;
            page = self.open(&page.path.clone()).await;
        }
        page
    }
}

async fn page(response: reqwest::Response) -> Page {
    let url = response.url();
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Page { status, path, headers, html: response.text().await.expect("because it is text") }
}

impl Page {
    /// The page as a person reads it: words only, single spaces.
    pub fn text(&self) -> String {
        let body = self.html.split_once("<body>").map_or(self.html.as_str(), |(_, body)| body);
        words(body)
    }

    /// Fails with the page's words unless they contain `expected`.
    #[track_caller]
    pub fn says(&self, expected: &str) {
        assert!(
            self.text().contains(expected),
            "{expected:?} is not on {} ({}): {}",
            self.path,
            self.status,
            self.text()
        );
    }

    /// The address of the first link with these words.
    #[track_caller]
    pub fn link(&self, expected: &str) -> String {
        let mut links = self.html.split("<a ").skip(1).filter_map(|rest| {
            let (tag, rest) = rest.split_once('>')?;
            (words(rest.split_once("</a>")?.0) == expected).then(|| attribute(tag, "href")).flatten()
        });
        links.next().unwrap_or_else(|| panic!("no link {expected:?} on {}: {}", self.path, self.text()))
    }

    /// The rows of the table whose caption begins with `caption`: the words of each cell.
    #[track_caller]
    pub fn table(&self, caption: &str) -> Vec<Vec<String>> {
        let tables = self.html.split("<table").skip(1).filter_map(|rest| rest.split_once("</table>"));
        let found = tables.map(|(table, _)| table).find(|table| {
            let named = table.split_once("<caption").and_then(|(_, rest)| rest.split_once("</caption>"));
            named.is_some_and(|(rest, _)| {
                words(rest.split_once('>').map_or("", |(_, text)| text)).starts_with(caption)
            })
        });
        let table = found.unwrap_or_else(|| panic!("no table {caption:?} on {}: {}", self.path, self.text()));
        let body = table.split_once("<tbody>").map_or("", |(_, body)| body);
        body.split("<tr").skip(1).map(|row| cells(row).iter().map(|cell| words(cell)).collect()).collect()
    }

    /// Names and values that the form with this action sends by itself.
    #[track_caller]
    fn fields_of(&self, action: &str) -> Vec<(String, String)> {
        let forms = self.html.split("<form ").skip(1).filter_map(|rest| rest.split_once("</form>"));
        let form = forms.map(|(form, _)| form).find(|form| {
            let tag = form.split_once('>').map_or("", |(tag, _)| tag);
            attribute(tag, "action").as_deref() == Some(action)
        });
        let form = form.unwrap_or_else(|| panic!("no form for {action} on {}: {}", self.path, self.text()));
        fields(form)
    }

    /// The action of the form with this button, and what it sends by itself.
    #[track_caller]
    fn form_with(&self, button: &str) -> (String, Vec<(String, String)>) {
        let mut forms = self.html.split("<form ").skip(1).filter_map(|rest| rest.split_once("</form>"));
        let form = forms.find_map(|(form, _)| {
            let mut buttons = form.split("<button").skip(1).filter_map(|rest| rest.split_once("</button>"));
            let is_it =
                |(rest, _): (&str, &str)| rest.split_once('>').is_some_and(|(_, text)| words(text) == button);
            buttons.any(is_it).then_some(form)
        });
        let form = form.unwrap_or_else(|| panic!("no button {button:?} on {}: {}", self.path, self.text()));
        let tag = form.split_once('>').map_or("", |(tag, _)| tag);
        (attribute(tag, "action").expect("because every form says where it goes"), fields(form))
    }

    /// Actions of the page's forms.
    pub fn forms(&self) -> Vec<String> {
        let tags = self.html.split("<form ").skip(1).filter_map(|rest| rest.split_once('>'));
        tags.filter_map(|(tag, _)| attribute(tag, "action")).collect()
    }
}

/// Names and values that a form sends by itself.
fn fields(form: &str) -> Vec<(String, String)> {
    let inputs = form.split("<input ").skip(1).filter_map(|rest| rest.split_once('>'));
    let sent = inputs.filter(|(tag, _)| {
        !matches!(attribute(tag, "type").as_deref(), Some("radio" | "checkbox")) || tag.contains(" checked")
    });
    sent.filter_map(|(tag, _)| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())))
        .collect()
}

/// The markup of each cell of a row.
pub fn cells(row: &str) -> Vec<&str> {
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let starts = ["<td", "<th"].iter().filter_map(|tag| rest.find(tag));
        let Some(start) = starts.min() else { return cells };
        let close = if rest[start..].starts_with("<td") { "</td>" } else { "</th>" };
        let inner = rest[start..].find('>').map_or(rest.len(), |at| start + at + 1);
        let end = rest[inner..].find(close).map_or(rest.len(), |at| inner + at);
        cells.push(&rest[inner..end]);
        rest = &rest[end..];
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) =
        format!(" {tag}").split_once(&format!(" {name}=\"")).map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    rest.split_once('"').map(|(value, _)| unescape(value))
}

fn words(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let block =
            !["span", "/span", "strong", "/strong", "mark", "/mark", "code", "/code", "time", "/time"]
                .iter()
                .any(|inline| after.strip_prefix(inline).is_some_and(|rest| rest.starts_with([' ', '>'])));
        if block {
            text.push(' ');
        }
        rest = after.split_once('>').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    unescape(&text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unescape(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}
