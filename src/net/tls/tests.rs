//! Both ends of real handshakes, over socket pairs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::config::{CertifiedKeyFiles, ChannelBinding, TlsMode, TlsNegotiation, UpstreamTls};
use crate::net::{Socket, Stream};

struct Authority {
    folder: TempDir,
    root: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        Self::called("test root")
    }

    fn called(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            folder: tempfile::tempdir().unwrap(),
            root,
            issuer,
        }
    }

    fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem", &self.root.pem())
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> (CertifiedKeyFiles, Fingerprint) {
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        (self.files(&leaf, key), Fingerprint::of(leaf.der()))
    }

    fn files(&self, leaf: &Certificate, key: &KeyPair) -> CertifiedKeyFiles {
        CertifiedKeyFiles {
            certificate: self.file("leaf.pem", &leaf.pem()),
            key: self.file("leaf.key", &key.serialize_pem()),
        }
    }

    fn server_for(&self, names: &[&str]) -> (ServerTls, Fingerprint) {
        let (files, leaf) = self.issue(&named(names), &KeyPair::generate().unwrap());
        (ServerTls::load(&files).unwrap(), leaf)
    }
}

fn named(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    params
}

fn settings(mode: TlsMode, ca: Option<&Path>) -> UpstreamTls {
    UpstreamTls {
        mode,
        negotiation: TlsNegotiation::Postgres,
        channel_binding: ChannelBinding::Prefer,
        ca: ca.map(Path::to_owned),
        server_name: None,
        pin: None,
        client: None,
    }
}

fn sockets() -> (Socket, Socket) {
    let (left, right) = UnixStream::pair().unwrap();
    let path = Arc::new(PathBuf::from("pair"));
    (Socket::unix(left, Arc::clone(&path)), Socket::unix(right, path))
}

async fn meet(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
) -> (Result<Stream, TlsError>, Result<Stream, TlsError>) {
    let (near, far) = sockets();
    tokio::join!(server.accept(far, Opening::Asked), client.connect(near, host))
}

async fn outcome(server: &ServerTls, settings: &UpstreamTls, host: &str) -> Result<TlsFacts, Reason> {
    let client = ClientTls::load(settings).unwrap();
    match meet(server, &client, host).await {
        (Ok(accepted), Ok(connected)) => {
            let (ours, theirs) = (accepted.tls().unwrap(), connected.tls().unwrap());
            assert_eq!(ours.end_point, theirs.end_point);
            Ok(theirs.clone())
        }
        (Err(_), Err(TlsError::Distrust(distrust))) => Err(distrust.reason),
        (accepted, connected) => panic!("{accepted:?} {connected:?}"),
    }
}

#[tokio::test]
async fn each_mode_verifies_what_it_promises() {
    let (ours, other) = (Authority::new(), Authority::called("other root"));
    let (server, _) = ours.server_for(&["db.internal", "127.0.0.1"]);
    let (ca, wrong_ca) = (ours.ca(), other.ca());
    let check = async |mode, ca: Option<&Path>, host| {
        let facts = outcome(&server, &settings(mode, ca), host).await;
        facts.map(|facts| facts.verified)
    };
    use TlsMode as M;
    let (right, wrong) = (Some(ca.as_path()), Some(wrong_ca.as_path()));
    for mode in [M::Prefer, M::Require] {
        assert!(matches!(check(mode, None, "any.host").await, Ok(false)));
        assert!(matches!(check(mode, right, "any.host").await, Ok(true)));
        assert!(matches!(
            check(mode, wrong, "db.internal").await,
            Err(Reason::UnknownIssuer)
        ));
    }
    assert!(matches!(check(M::VerifyCa, right, "any.host").await, Ok(true)));
    assert!(matches!(
        check(M::VerifyCa, wrong, "db.internal").await,
        Err(Reason::UnknownIssuer)
    ));
    assert!(matches!(
        check(M::VerifyFull, right, "db.internal").await,
        Ok(true)
    ));
    assert!(matches!(check(M::VerifyFull, right, "127.0.0.1").await, Ok(true)));
    let other_name = check(M::VerifyFull, right, "any.host").await.unwrap_err();
    assert!(matches!(other_name, Reason::WrongName { .. }));
    assert_eq!(
        other_name.to_string(),
        "it is for db.internal, 127.0.0.1, not for any.host"
    );
    assert!(matches!(
        check(M::VerifyFull, right, "127.0.0.2").await,
        Err(Reason::WrongName { .. })
    ));
    assert!(matches!(
        check(M::VerifyFull, wrong, "db.internal").await,
        Err(Reason::UnknownIssuer)
    ));
}

#[tokio::test]
async fn an_issuer_with_a_new_key_is_told_from_an_unknown_one() {
    let (before, after) = (Authority::new(), Authority::new());
    let (server, _) = after.server_for(&["db.internal"]);
    let stale = settings(TlsMode::VerifyCa, Some(&before.ca()));
    let reason = outcome(&server, &stale, "db.internal").await.unwrap_err();
    assert!(matches!(reason, Reason::OtherIssuer), "{reason}");
}

#[tokio::test]
async fn another_server_name_can_be_verified_than_the_host() {
    let authority = Authority::new();
    let (server, _) = authority.server_for(&["db.internal"]);
    let mut settings = settings(TlsMode::VerifyFull, Some(&authority.ca()));
    settings.server_name = Some("db.internal".into());
    assert!(outcome(&server, &settings, "10.0.0.7").await.unwrap().verified);

    settings.server_name = None;
    let client = ClientTls::load(&settings).unwrap();
    let (near, _far) = sockets();
    let error = client.connect(near, "not a name").await.unwrap_err();
    assert!(matches!(error, TlsError::ServerName { .. }), "{error}");
}

#[tokio::test]
async fn a_pinned_leaf_is_trusted_whatever_its_chain_and_name() {
    let authority = Authority::new();
    let (server, leaf) = authority.server_for(&["db.internal"]);
    let mut settings = settings(TlsMode::VerifyFull, None);
    settings.pin = Some(leaf.0);
    assert!(outcome(&server, &settings, "any.host").await.unwrap().verified);
    settings.pin = Some([7; 32]);
    assert!(matches!(
        outcome(&server, &settings, "any.host").await,
        Err(Reason::NotPinned)
    ));
}

#[tokio::test]
async fn a_certificate_that_only_libpq_would_take_is_explained_and_can_be_pinned() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();

    let mut marked_ca = named(&["db.internal"]);
    marked_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let leaf = marked_ca.self_signed(&key).unwrap();
    let server = ServerTls::load(&authority.files(&leaf, &key)).unwrap();
    let own = authority.file("own.pem", &leaf.pem());
    let strict = settings(TlsMode::VerifyFull, Some(&own));
    let reason = outcome(&server, &strict, "db.internal").await.unwrap_err();
    assert!(matches!(reason, Reason::AuthorityAsServer), "{reason}");
    let client = ClientTls::load(&strict).unwrap();
    let error = meet(&server, &client, "db.internal").await.1.unwrap_err();
    let fingerprint = Fingerprint::of(leaf.der());
    assert!(
        fingerprint.to_string().starts_with("sha256:"),
        "as a configuration takes it: {fingerprint}"
    );
    assert!(
        error
            .to_string()
            .ends_with(&format!("set tls.pin = \"{fingerprint}\"")),
        "{error}"
    );
    let pinned = UpstreamTls {
        pin: Some(fingerprint.0),
        ..strict
    };
    assert!(outcome(&server, &pinned, "db.internal").await.unwrap().verified);
    outcome(&server, &settings(TlsMode::Require, None), "db.internal")
        .await
        .unwrap();

    let mut common_name_only = named(&[]);
    common_name_only
        .distinguished_name
        .push(DnType::CommonName, "db.internal");
    let (files, _) = authority.issue(&common_name_only, &key);
    let server = ServerTls::load(&files).unwrap();
    let strict = settings(TlsMode::VerifyFull, Some(&authority.ca()));
    let reason = outcome(&server, &strict, "db.internal").await.unwrap_err();
    assert!(matches!(reason, Reason::NoName), "{reason}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_where_the_chain_counts() {
    let authority = Authority::new();
    let (mut past, mut future) = (named(&["db.internal"]), named(&["db.internal"]));
    past.not_after = date_time_ymd(2001, 1, 1);
    future.not_before = date_time_ymd(2999, 1, 1);
    let strict = settings(TlsMode::VerifyCa, Some(&authority.ca()));
    let (files, _) = authority.issue(&past, &KeyPair::generate().unwrap());
    let reason = outcome(&ServerTls::load(&files).unwrap(), &strict, "db.internal").await;
    assert!(matches!(reason, Err(Reason::Expired)));
    let (files, _) = authority.issue(&future, &KeyPair::generate().unwrap());
    let reason = outcome(&ServerTls::load(&files).unwrap(), &strict, "db.internal").await;
    assert!(matches!(reason, Err(Reason::NotValidYet)));
}

#[tokio::test]
async fn a_server_that_lacks_the_certificates_key_is_refused_even_without_verification() {
    let authority = Authority::new();
    let (files, _) = authority.issue(&named(&["db.internal"]), &KeyPair::generate().unwrap());
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    let other =
        rustls::pki_types::PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
    let provider = provider();
    let key = provider.key_provider.load_private_key(other).unwrap();
    let certified = rustls::sign::CertifiedKey::new(chain, key);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let (near, far) = sockets();
    let client = ClientTls::load(&settings(TlsMode::Require, None)).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (_, connected) = tokio::join!(acceptor.accept(far), client.connect(near, "db.internal"));
    assert!(matches!(connected, Err(TlsError::Handshake(_))), "{connected:?}");
}

#[tokio::test]
async fn both_ends_bind_to_the_same_hash_of_any_key() {
    let authority = Authority::new();
    for (algorithm, length) in [
        (&PKCS_ECDSA_P256_SHA256, Some(32)),
        (&PKCS_ECDSA_P384_SHA384, Some(48)),
        (&PKCS_ED25519, None),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = named(&["db.internal"]).self_signed(&key).unwrap();
        let server = ServerTls::load(&authority.files(&leaf, &key)).unwrap();
        let facts = outcome(&server, &settings(TlsMode::Require, None), "db.internal")
            .await
            .unwrap();
        assert_eq!(facts.end_point.map(|hash| hash.len()), length);
    }
}

#[test]
fn certificate_hashes_are_those_that_openssl_prints() {
    let text = include_str!("../../../tests/fixtures/end-point-certificates.pem");
    let expected = text.lines().filter_map(|line| line.strip_prefix("end-point "));
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let mut seen = 0;
    for (line, certificate) in expected.zip(certificates) {
        let (name, expected) = line.split_once(' ').unwrap();
        let hash = binding::end_point_hash(&certificate.unwrap());
        let hex = hash.map_or("none".to_owned(), |hash| {
            hash.iter().map(|b| format!("{b:02x}")).collect()
        });
        assert_eq!(hex, expected, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 14);
}

/// What a client does that this crate's own client never would.
async fn raw_client(
    server: &ServerTls,
    alpn: &[&[u8]],
    direct_read: Option<usize>,
) -> Result<Stream, TlsError> {
    let algorithms = provider().signature_verification_algorithms;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::Verifier::new(verify::Trust::Anyone, algorithms)))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let (near, mut far) = sockets();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let accept = async {
        let mut read = vec![0; direct_read.unwrap_or(0)];
        far.read_exact(&mut read).await.unwrap();
        let opening = direct_read.map_or(Opening::Asked, |_| Opening::Direct(&read));
        server.accept(far, opening).await
    };
    let (accepted, _connected) = tokio::join!(accept, connector.connect("db".try_into().unwrap(), near));
    accepted
}

#[tokio::test]
async fn alpn_is_required_of_direct_tls_and_checked_where_it_is_offered() {
    let (server, _) = Authority::new().server_for(&["db"]);
    raw_client(&server, &[], None).await.unwrap();
    raw_client(&server, &[ALPN], None).await.unwrap();
    raw_client(&server, &[b"http/1.1", ALPN], Some(8)).await.unwrap();
    for direct_read in [None, Some(8)] {
        let error = raw_client(&server, &[b"h2"], direct_read).await.unwrap_err();
        assert!(matches!(error, TlsError::Handshake(_)), "{error}");
    }
    let error = raw_client(&server, &[], Some(8)).await.unwrap_err();
    assert!(matches!(error, TlsError::NoAlpn), "{error}");
}

#[tokio::test]
async fn direct_tls_goes_on_after_any_number_of_bytes_already_read() {
    let (server, _) = Authority::new().server_for(&["db"]);
    for read in [1, 4, 5, 6, 8, 100] {
        raw_client(&server, &[ALPN], Some(read)).await.unwrap();
    }
    let (near, far) = sockets();
    let error = server
        .accept(far, Opening::Direct(b"GET / HTTP/1.1\r\n"))
        .await
        .unwrap_err();
    assert!(!error.is_disconnect(), "{error}");
    drop(near);
}

#[tokio::test]
async fn a_later_session_is_resumed_and_still_knows_the_certificate() {
    let authority = Authority::new();
    let (server, _) = authority.server_for(&["db.internal"]);
    let client = ClientTls::load(&settings(TlsMode::VerifyFull, Some(&authority.ca()))).unwrap();
    let mut before: Option<TlsFacts> = None;
    for resumed in [false, true, true] {
        let (accepted, connected) = meet(&server, &client, "db.internal").await;
        let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
        // Tickets come behind the handshake, with the first bytes that the client reads.
        accepted.write_all(b"x").await.unwrap();
        accepted.flush().await.unwrap();
        assert_eq!(connected.read_u8().await.unwrap(), b'x');
        let facts = connected.tls().unwrap().clone();
        assert_eq!((facts.resumed, facts.verified), (resumed, true));
        assert!(facts.end_point.is_some());
        if let Some(before) = before {
            assert_eq!(facts.end_point, before.end_point);
        }
        before = Some(facts);
    }
}

#[tokio::test]
async fn an_end_without_close_notify_reads_as_an_end() {
    let (server, _) = Authority::new().server_for(&["db"]);
    let client = ClientTls::load(&settings(TlsMode::Require, None)).unwrap();
    let (accepted, connected) = meet(&server, &client, "db").await;
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    accepted.write_all(b"last words").await.unwrap();
    accepted.flush().await.unwrap();
    drop(accepted);
    let mut text = Vec::new();
    connected.read_to_end(&mut text).await.unwrap();
    assert_eq!(text, b"last words");
    std::future::poll_fn(|cx| connected.poll_read_ready(cx))
        .await
        .unwrap();
    assert_eq!(connected.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(!connected.is_quiet());
}

#[tokio::test]
async fn a_quiet_session_is_told_from_one_with_something_unread() {
    let (server, _) = Authority::new().server_for(&["db"]);
    let client = ClientTls::load(&settings(TlsMode::Require, None)).unwrap();
    let (accepted, connected) = meet(&server, &client, "db").await;
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    accepted.write_all(b"ab").await.unwrap();
    accepted.flush().await.unwrap();
    assert_eq!(connected.read_u8().await.unwrap(), b'a');
    assert!(!connected.is_quiet());
    std::future::poll_fn(|cx| connected.poll_read_ready(cx))
        .await
        .unwrap();
    assert_eq!(connected.read_u8().await.unwrap(), b'b');
    assert!(connected.is_quiet());
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ClientAuth);
    let (client_files, _) = authority.issue(&params, &KeyPair::generate().unwrap());
    let with = UpstreamTls {
        client: Some(client_files),
        ..settings(TlsMode::Require, None)
    };
    let with = ClientTls::load(&with).unwrap();
    let without = ClientTls::load(&settings(TlsMode::Require, None)).unwrap();

    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root.der().clone()).unwrap();
    let asks = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (server_files, _) = authority.issue(&named(&["db"]), &KeyPair::generate().unwrap());
    let own = files::certified_key(&server_files).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(asks.build().unwrap())
        .with_single_cert(own.chain, own.key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for (client, is_let_in) in [(with, true), (without, false)] {
        let (near, far) = sockets();
        let (accepted, _connected) = tokio::join!(acceptor.accept(far), client.connect(near, "db"));
        assert_eq!(accepted.is_ok(), is_let_in);
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let authority = Authority::new();
    let (files, _) = authority.issue(&named(&["db"]), &KeyPair::generate().unwrap());
    let empty = authority.file("empty.pem", "nothing\n");
    let other_key = authority.file("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let load = |certificate: &Path, key: &Path| {
        let files = CertifiedKeyFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        ServerTls::load(&files)
            .err()
            .expect("has to be refused")
            .to_string()
    };
    assert!(load(Path::new("/nowhere.pem"), &files.key).contains("can't read /nowhere.pem"));
    assert!(load(&empty, &files.key).contains("empty.pem is not a PEM file with certificates"));
    assert!(load(&files.certificate, &empty).contains("unencrypted private key"));
    assert!(load(&files.certificate, &other_key).contains("other.key can't be used with the certificate"));
    let no_roots = ClientTls::load(&settings(TlsMode::VerifyCa, Some(&empty)))
        .err()
        .expect("no roots");
    assert!(matches!(no_roots, TlsFilesError::NoRoots { .. }), "{no_roots}");
}

#[test]
fn a_bundle_with_unreadable_certificates_serves_with_the_rest() {
    let authority = Authority::new();
    let unreadable = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let bundle = authority.file("bundle.pem", &format!("{unreadable}{}", authority.root.pem()));
    let client = ClientTls::load(&settings(TlsMode::VerifyCa, Some(&bundle))).unwrap();
    assert_eq!(client.roots_skipped(), 1);
}
