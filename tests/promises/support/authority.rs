//! A certificate authority that lives as long as its test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::place::temporary_directory;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    directory: tempfile::TempDir,
}

/// A certificate and its key, as PEM.
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "pgswivel test authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let directory = temporary_directory();
        std::fs::write(directory.path().join("ca.pem"), &certificate).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            directory,
        }
    }

    /// The file that a client is given to trust this authority.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a server that is reached by any of `names`.
    pub fn server(&self, names: &[&str]) -> Certified {
        self.sign("server", names)
    }

    /// A certificate for a client whose common name is `user`, which is what Postgres looks at.
    pub fn client(&self, user: &str) -> Certified {
        self.sign(user, &[])
    }

    fn sign(&self, subject: &str, names: &[&str]) -> Certified {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        let key = KeyPair::generate().unwrap();
        Certified {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client that trusts this authority alone.
    pub fn trusting_client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A server with a certificate for `names`.
    pub fn certified_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let certified = self.server(names);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certified.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap(),
            )
            .unwrap();
        Arc::new(config)
    }
}

impl Certified {
    /// Writes `<name>.pem` and `<name>.key` and returns their paths.
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::PermissionsExt;
        let certificate = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        (certificate, key)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
