//! By which names this server is asked. A web page can have a name of its own lead to this machine, and then reads what
//! is answered as if it were its own: what tells users and hosts is for those who call the server by its address, by
//! `localhost`, or by a name in `admin.hosts`. No page can choose what its browser calls the server.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::Authority;
use hyper::{Request, Uri};

/// `local`: where the request came in. Who does not say a name is no browser.
pub fn is_ours<B>(request: &Request<B>, local: IpAddr, hosts: &[String]) -> bool {
    let (uri, headers) = (request.uri(), request.headers());
    said(uri, headers).is_some_and(|said| said.iter().all(|said| is_own(said, local, hosts)))
}

/// Every name that it calls the server by; None: one is no name at all.
fn said(uri: &Uri, headers: &HeaderMap) -> Option<Vec<Authority>> {
    let named = headers.get_all(HOST).iter();
    let named = named.map(|host| Authority::try_from(host.as_bytes()).ok());
    uri.authority()
        .cloned()
        .map(Some)
        .into_iter()
        .chain(named)
        .collect()
}

fn is_own(said: &Authority, local: IpAddr, hosts: &[String]) -> bool {
    if said.as_str().contains('@') {
        return false;
    }
    let host = said.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_configured = hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
    let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = match unbracketed.unwrap_or(host).parse::<IpAddr>() {
        // That of every address of the machine stands in the log, from where it is copied.
        Ok(ip) => {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip.is_unspecified() || ip == local.to_canonical()
        }
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    is_address || is_configured
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ours_by(uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        let known = ["pgswivel".to_owned(), "10.9.9.9".to_owned()];
        is_ours(&request, "10.1.2.3".parse().unwrap(), &known)
    }

    #[test]
    fn its_addresses_localhost_and_what_is_configured_are_its_names() {
        for host in [
            "127.0.0.1:9632",
            "127.8.9.10",
            "[::1]:9632",
            "[::ffff:127.0.0.1]",
            "0.0.0.0:9632",
            "10.1.2.3:9632",
            "[::ffff:10.1.2.3]:9632",
            "localhost:9632",
            "LocalHost.",
            "pgswivel:9632",
            "PGSWIVEL",
            "10.9.9.9:31000",
        ] {
            assert!(is_ours_by("/status", &[host]), "{host}");
        }
        assert!(is_ours_by("/status", &[]), "no browser leaves it out");
        assert!(is_ours_by("http://localhost:9632/status", &["localhost:9632"]));
    }

    #[test]
    fn what_leads_here_under_another_name_is_not_ours() {
        for host in [
            "evil.example:9632",
            "10.1.2.4:9632",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.localhost",
            "127.0.0.1@evil.example",
            "evil@127.0.0.1",
            "pgswivel.evil.example",
            "notpgswivel",
            "",
            "a b",
            "\u{e9}",
        ] {
            assert!(!is_ours_by("/status", &[host]), "{host}");
        }
        assert!(!is_ours_by("/status", &["localhost", "evil.example"]));
        assert!(!is_ours_by("http://evil.example/status", &["localhost"]));
    }
}
