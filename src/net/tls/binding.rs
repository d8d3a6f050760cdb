//! The certificate hash of `tls-server-end-point` (RFC 5929), from the DER of the leaf.

use std::sync::Arc;

use aws_lc_rs::digest::{self, Algorithm};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `[0] EXPLICIT`: the hash in RSASSA-PSS parameters.
const PSS_HASH: u8 = 0xa0;

const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];

/// Signature algorithms, and the hash each binds with: its own, but SHA-256 in place of MD5 and SHA-1.
const SIGNATURES: [(&[u8], &Algorithm); 11] = [
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
        &digest::SHA256,
    ), // md5WithRSAEncryption
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
        &digest::SHA256,
    ), // sha1WithRSAEncryption
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b],
        &digest::SHA256,
    ), // sha256WithRSAEncryption
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c],
        &digest::SHA384,
    ), // sha384WithRSAEncryption
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d],
        &digest::SHA512,
    ), // sha512WithRSAEncryption
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0e],
        &digest::SHA224,
    ), // sha224WithRSAEncryption
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &digest::SHA256), // ecdsa-with-SHA1
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x01], &digest::SHA224), // ecdsa-with-SHA224
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &digest::SHA256), // ecdsa-with-SHA256
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &digest::SHA384), // ecdsa-with-SHA384
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &digest::SHA512), // ecdsa-with-SHA512
];

const HASHES: [(&[u8], &Algorithm); 5] = [
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1a], &digest::SHA256), // SHA-1
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        &digest::SHA256,
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02],
        &digest::SHA384,
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03],
        &digest::SHA512,
    ),
    (
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x04],
        &digest::SHA224,
    ),
];

/// None where the signature has no hash of its own (Ed25519) or one unknown here.
pub(super) fn end_point_hash(leaf: &[u8]) -> Option<Arc<[u8]>> {
    let hash = signature_hash(leaf)?;
    Some(Arc::from(digest::digest(hash, leaf).as_ref()))
}

fn signature_hash(leaf: &[u8]) -> Option<&'static Algorithm> {
    let (certificate, _) = element(leaf, SEQUENCE)?;
    let (_to_be_signed, rest) = element(certificate, SEQUENCE)?;
    let (algorithm, _signature) = element(rest, SEQUENCE)?;
    let (identifier, parameters) = element(algorithm, OBJECT_IDENTIFIER)?;
    if identifier == RSASSA_PSS {
        return pss_hash(parameters);
    }
    look_up(&SIGNATURES, identifier)
}

fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    let (fields, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(fields, PSS_HASH) else {
        // Absent, it is SHA-1 by the standard.
        return Some(&digest::SHA256);
    };
    let (algorithm, _) = element(hash, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    look_up(&HASHES, identifier)
}

fn look_up(table: &[(&[u8], &'static Algorithm)], identifier: &[u8]) -> Option<&'static Algorithm> {
    let row = table.iter().find(|(known, _)| *known == identifier);
    row.map(|(_, hash)| *hash)
}

/// The contents of the DER element of kind `tag` that `bytes` begin with, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits
                .iter()
                .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).expect("small tests");
        [&[tag, 0x81, length], contents].concat()
    }

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        der(
            SEQUENCE,
            &[
                der(SEQUENCE, b"to be signed"),
                der(SEQUENCE, algorithm),
                der(3, b"\0sig"),
            ]
            .concat(),
        )
    }

    #[test]
    fn md5_and_sha1_signatures_bind_with_sha256() {
        for row in [0, 1, 6] {
            let leaf = certificate(&der(OBJECT_IDENTIFIER, SIGNATURES[row].0));
            let hash = end_point_hash(&leaf).expect("a hash");
            assert_eq!(*hash, *digest::digest(&digest::SHA256, &leaf).as_ref());
        }
    }

    #[test]
    fn pss_without_a_named_hash_is_sha1_and_binds_with_sha256() {
        let algorithm = [der(OBJECT_IDENTIFIER, RSASSA_PSS), der(SEQUENCE, b"")].concat();
        assert_eq!(signature_hash(&certificate(&algorithm)), Some(&digest::SHA256));
    }

    #[test]
    fn an_unknown_algorithm_has_no_hash() {
        let ed25519 = der(OBJECT_IDENTIFIER, &[0x2b, 0x65, 0x70]);
        assert_eq!(end_point_hash(&certificate(&ed25519)), None);
    }

    proptest! {
        #[test]
        fn no_certificate_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            cut in 0_usize..64,
        ) {
            let _ = end_point_hash(&bytes);
            let whole = certificate(&bytes);
            let _ = end_point_hash(&whole[..cut.min(whole.len())]);
        }
    }
}
