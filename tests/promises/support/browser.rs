//! A real browser, told what to do over its debugging pipe.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::place::temporary_directory;
use super::process::{As, command};
use super::{eventually, within};

/// Programs of browsers that understand what is said here.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// One tab.
pub struct Browser {
    // Ends with this.
    _child: Child,
    _profile: TempDir,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    calls: u64,
    tab: Option<String>,
    complaints: Vec<String>,
}

impl Browser {
    /// None, and a loud word about it: there is none on this machine.
    pub async fn start() -> Option<Self> {
        let Some(program) = installed() else {
            super::skipped("no Chromium; tests/setup browser installs it where it can");
            return None;
        };
        let profile = temporary_directory();
        let mut command = command("sh".as_ref(), As::Ourselves);
        // The pipe is on descriptors 3 and 4.
        command
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2"])
            .arg(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-dev-shm-usage"]);
        command.arg("--remote-debugging-pipe");
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut browser = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            _child: child,
            _profile: profile,
            calls: 0,
            tab: None,
            complaints: Vec::new(),
        };
        let target = browser
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let tab = browser.call("Target.attachToTarget", target).await;
        browser.tab = Some(tab["sessionId"].as_str().unwrap().to_owned());
        for part in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{part}.enable"), json!({})).await;
        }
        Some(browser)
    }

    pub async fn without_scripts(&mut self) {
        let value = json!({ "value": true });
        self.call("Emulation.setScriptExecutionDisabled", value).await;
    }

    pub async fn looks(&mut self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme).await;
    }

    /// Goes there, and returns when the page is whole.
    pub async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.shows("document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// Waits until this expression is true in the page.
    pub async fn shows(&mut self, expression: &str) {
        let mut asked = std::mem::take(&mut self.complaints);
        eventually(&format!("the page has {expression}"), async || {
            self.evaluate(expression).await == true
        })
        .await;
        asked.append(&mut self.complaints);
        self.complaints = asked;
    }

    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let expression = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", expression).await;
        answer["result"]["value"].clone()
    }

    /// What it said about the page on its console.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(tab) = &self.tab {
            call["sessionId"] = json!(tab);
        }
        let mut call = call.to_string().into_bytes();
        call.push(0);
        self.input.write_all(&call).await.unwrap();
        within(ANSWERS_WITHIN, method, self.answer()).await
    }

    async fn answer(&mut self) -> Value {
        loop {
            let mut message = Vec::new();
            self.output.read_until(0, &mut message).await.unwrap();
            assert_eq!(message.pop(), Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.calls {
                assert_eq!(message["error"], Value::Null, "{message}");
                return message["result"].clone();
            }
            let what = message["method"].as_str().unwrap_or_default();
            if [
                "Log.entryAdded",
                "Runtime.exceptionThrown",
                "Runtime.consoleAPICalled",
            ]
            .contains(&what)
            {
                self.complaints.push(message["params"].to_string());
            }
        }
    }
}

fn installed() -> Option<PathBuf> {
    let found = PROGRAMS.iter().find(|program| {
        let mut ask = Command::new(program);
        let asked = ask.arg("--version").stdout(Stdio::null());
        let status = asked.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    });
    found.map(PathBuf::from)
}
