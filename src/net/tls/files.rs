//! PEM files.

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::error::TlsFilesError;
use crate::config::CertifiedKeyFiles;

/// A chain, leaf first, and the key of the leaf.
pub(super) struct CertifiedKey {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

pub(super) fn certified_key(files: &CertifiedKeyFiles) -> Result<CertifiedKey, TlsFilesError> {
    let chain = pem_certificates(&files.certificate)?;
    if chain.is_empty() {
        return Err(TlsFilesError::NoCertificate {
            path: files.certificate.clone(),
        });
    }
    let text = Zeroizing::new(read(&files.key)?);
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsFilesError::NoKey {
        path: files.key.clone(),
    })?;
    Ok(CertifiedKey { chain, key })
}

/// Roots from a file. Bundles carry certificates that not every library reads, so those that can be
/// read are taken and the rest are counted.
pub(super) fn roots(path: &Path) -> Result<(RootCertStore, usize), TlsFilesError> {
    let text = read(path)?;
    let mut roots = RootCertStore::empty();
    let mut skipped = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        match certificate.map(|certificate| roots.add(certificate)) {
            Ok(Ok(())) => {}
            _ => skipped += 1,
        }
    }
    if roots.is_empty() {
        return Err(TlsFilesError::NoRoots {
            path: path.to_owned(),
        });
    }
    Ok((roots, skipped))
}

pub(super) fn system_roots() -> Result<(RootCertStore, usize), TlsFilesError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, skipped) = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(TlsFilesError::NoSystemRoots);
    }
    Ok((roots, skipped))
}

fn pem_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let text = read(path)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsFilesError::NoCertificate {
            path: path.to_owned(),
        })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFilesError> {
    fs::read(path).map_err(|source: io::Error| TlsFilesError::Read {
        path: path.to_owned(),
        source,
    })
}
