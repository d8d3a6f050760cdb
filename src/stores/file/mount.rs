//! Finds out whether a path is a mount of its own, which never follows what replaces it outside.

use std::path::Path;

pub(super) fn is_mounted_alone(path: &Path) -> bool {
    let Ok(real) = std::fs::canonicalize(path) else {
        return false;
    };
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return false;
    };
    let is_file = real.is_file();
    mounts
        .lines()
        .filter_map(Mount::parse)
        .any(|mount| Path::new(&mount.point) == real && (is_file || mount.is_sub_path()))
}

struct Mount {
    /// The path within its file system.
    root: String,
    point: String,
}

impl Mount {
    /// `36 35 98:0 /root /point options… - type source options`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').skip(3);
        Some(Self {
            root: unescape(words.next()?),
            point: unescape(words.next()?),
        })
    }

    fn is_sub_path(&self) -> bool {
        self.root.contains("/volume-subpaths/")
    }
}

/// Blanks and backslashes stand as `\040` in mountinfo.
fn unescape(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_is_known_by_its_line() {
        let line = "1432 1410 259:1 /var/lib/kubelet/pods/4f/volume-subpaths/db/app/0 /run/my\\040secrets/db.json \
                    ro,relatime - ext4 /dev/nvme0n1p1 rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, "/run/my secrets/db.json");
        assert!(mount.is_sub_path());
        let whole = "1432 1410 0:97 / /run/secrets ro,relatime - tmpfs tmpfs rw,size=8k";
        assert!(!Mount::parse(whole).unwrap().is_sub_path());
        assert_eq!(unescape("a\\b\\04"), "a\\b\\04");
    }

    #[test]
    fn a_plain_file_is_not_a_mount() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_mounted_alone(file.path()));
    }
}
