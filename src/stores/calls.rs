use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($operation:ident => $label:literal,)*) => {
        /// Everything that a store does outside this process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($operation,)*
        }

        impl Operation {
            pub const ALL: &[Self] = &[$(Self::$operation,)*];

            /// A stable word for metrics and status.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$operation => $label,)*
                }
            }
        }
    };
}

operations! {
    ReadFile => "read_file",
    RunCommand => "run_command",
    DescribeSecret => "describe_secret",
    GetSecretValue => "get_secret_value",
    PutSecretValue => "put_secret_value",
    UpdateSecretVersionStage => "update_secret_version_stage",
    GetParameter => "get_parameter",
    DescribeParameters => "describe_parameters",
    PutParameter => "put_parameter",
    SignToken => "sign_token",
    VaultLogin => "vault_login",
    VaultRenewToken => "vault_renew_token",
    VaultRead => "vault_read",
    VaultWrite => "vault_write",
    VaultIssue => "vault_issue",
    VaultRenewLease => "vault_renew_lease",
}

/// How often a store did what, since it was opened.
#[derive(Debug)]
pub struct Calls([AtomicU64; Operation::ALL.len()]);

impl Default for Calls {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Calls {
    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, operation: Operation) -> u64 {
        self.0[operation as usize].load(Ordering::Relaxed)
    }

    /// What was called at all, and how often.
    pub fn made(&self) -> impl Iterator<Item = (Operation, u64)> + '_ {
        Operation::ALL
            .iter()
            .map(|operation| (*operation, self.of(*operation)))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_count_of_its_own() {
        let calls = Calls::default();
        calls.count(Operation::GetSecretValue);
        calls.count(Operation::GetSecretValue);
        calls.count(Operation::VaultRenewLease);
        let made: Vec<_> = calls.made().collect();
        assert_eq!(
            made,
            [(Operation::GetSecretValue, 2), (Operation::VaultRenewLease, 1)]
        );
        assert_eq!(calls.of(Operation::ReadFile), 0);
    }
}
