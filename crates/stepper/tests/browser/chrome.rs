//! A headless Chromium, driven over its DevTools protocol: one browser with one tab, and one question at a time.
//!
//! The protocol is JSON over a web socket. `tungstenite` has the socket; of the protocol's hundreds of methods a dozen are needed.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// What browsers are called. The first is Debian's `chromium-headless-shell`.
const NAMES: &[&str] = &[
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "google-chrome",
];

/// A browser that says nothing for so long does not work.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Chrome {
    process: Child,
    profile: PathBuf,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    asked: u64,
    // What happened meanwhile: names and parameters.
    events: Vec<(String, Value)>,
}

fn browser() -> PathBuf {
    if let Some(named) = env::var_os("STEPPER_BROWSER") {
        return named.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = NAMES.iter().find_map(|name| {
        env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    });
    found.unwrap_or_else(|| {
        panic!("none of {NAMES:?} is in PATH: `ci/setup browser` installs one, or STEPPER_BROWSER names one")
    })
}

impl Chrome {
    /// Starts a browser with an empty tab.
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{}-{number}", std::process::id()));
        let browser = browser();
        let mut process = Command::new(&browser)
            .args([
                "--headless",
                "--remote-debugging-port=0",
                "--no-first-run",
                "--hide-scrollbars",
            ])
            // The page is our own, and the browser's sandbox does not start for root or in a container.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", browser.display()));
        let mut lines = BufReader::new(process.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let url = lines
            .by_ref()
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned));
        let url = url.expect("the browser ended before it listened");
        // A full pipe would stop the browser.
        thread::spawn(move || lines.for_each(drop));
        let address = url
            .strip_prefix("ws://")
            .and_then(|rest| rest.split('/').next())
            .unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(&url, stream).unwrap();
        let mut chrome = Self {
            process,
            profile,
            socket,
            session: None,
            asked: 0,
            events: Vec::new(),
        };
        let target = chrome.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = chrome.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        chrome.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Network", "Log", "DOM"] {
            chrome.call(&format!("{domain}.enable"), json!({}));
        }
        chrome.call("Performance.enable", json!({ "timeDomain": "threadTicks" }));
        chrome
    }

    /// Calls a method of the protocol, and waits for its answer.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let heard = self.hear(method);
            if heard["id"] == self.asked {
                assert!(heard["error"].is_null(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
        }
    }

    /// Takes one message, and notes it where it is an event.
    fn hear(&mut self, waiting_for: &str) -> Value {
        let message = self
            .socket
            .read()
            .unwrap_or_else(|error| panic!("waiting for {waiting_for}: {error}"));
        let Message::Text(text) = message else {
            return Value::Null;
        };
        let heard: Value = serde_json::from_str(&text).unwrap();
        if let Some(name) = heard["method"].as_str() {
            self.events.push((name.to_owned(), heard["params"].clone()));
        }
        heard
    }

    /// Evaluates an expression in the page; waits for it where it is a promise.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {:#}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    pub(crate) fn text(&mut self, expression: &str) -> String {
        match self.eval(expression) {
            Value::String(text) => text,
            other => panic!("{expression} is {other}"),
        }
    }

    /// Opens an address, and waits until it is there.
    pub(crate) fn open(&mut self, url: &str) {
        self.events.clear();
        let answer = self.call("Page.navigate", json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        while !self.events.iter().any(|(name, _)| name == "Page.loadEventFired") {
            self.hear("the page to load");
        }
    }

    /// Returns the parameters of the events of this name since the page was opened.
    pub(crate) fn heard(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |(heard, _)| heard == name)
            .map(|(_, params)| params)
    }

    /// Presses a key and lets it go.
    pub(crate) fn press(&mut self, key: &str) {
        let mut params = json!({ "type": "keyDown", "key": key, "code": key });
        if key.chars().count() == 1 {
            params["text"] = json!(key);
        }
        self.call("Input.dispatchKeyEvent", params.clone());
        params["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", params);
    }

    /// Types where the focus is.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses the mouse at the first place, moves it to each of the others, and lets it go at the last.
    pub(crate) fn drag(&mut self, places: &[(f64, f64)]) {
        let last = places.len() - 1;
        for (n, (x, y)) in places.iter().enumerate() {
            let mut mouse = |kind: &str, buttons: u32| {
                let params =
                    json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
                self.call("Input.dispatchMouseEvent", params);
            };
            mouse("mouseMoved", u32::from(n > 0));
            if n == 0 {
                mouse("mousePressed", 1);
            }
            if n == last {
                mouse("mouseReleased", 0);
            }
        }
    }

    /// Clicks the middle of what a selector finds.
    pub(crate) fn click(&mut self, selector: &str) {
        let middle = self.eval(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        self.drag(&[(middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap())]);
    }

    /// Picks a file in a file input.
    pub(crate) fn pick(&mut self, selector: &str, file: &Path) {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let node = self.call("DOM.querySelector", json!({ "nodeId": root, "selector": selector }))["nodeId"].clone();
        self.call("DOM.setFileInputFiles", json!({ "nodeId": node, "files": [file] }));
    }

    /// Makes the window so large.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    /// Shows the page on this medium (`screen` or `print`), to somebody who likes it `light` or `dark`.
    pub(crate) fn media(&mut self, medium: &str, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "media": medium, "features": features }),
        );
    }

    /// Returns how many seconds of the processor the page's thread has had.
    pub(crate) fn processor(&mut self) -> f64 {
        let metrics = self.call("Performance.getMetrics", json!({}));
        let mut metrics = metrics["metrics"].as_array().unwrap().iter();
        let spent = metrics.find(|metric| metric["name"] == "TaskDuration").unwrap();
        spent["value"].as_f64().unwrap()
    }

    /// Returns a picture of the window, as base64 of a PNG.
    pub(crate) fn picture(&mut self) -> String {
        self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
