use std::time::{Duration, SystemTime};

/// A time as Vault writes it: `2019-05-06T15:26:42.525302-05:00`. Fractions of a second are dropped.
pub(super) fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let mut time = time.split(':');
    let (hour, minute) = (number(time.next()?)?, number(time.next()?)?);
    let second = number(time.next()?.split('.').next()?)?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let local = Duration::from_secs(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second);
    let since = match zone.split_at_checked(1)? {
        ("Z", "") => local,
        ("+", offset) => local.checked_sub(minutes(offset)?)?,
        ("-", offset) => local + minutes(offset)?,
        _ => return None,
    };
    SystemTime::UNIX_EPOCH.checked_add(since)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number < 100)
}

/// `05:00`
fn minutes(offset: &str) -> Option<Duration> {
    let (hours, minutes) = offset.split_once(':')?;
    Some(Duration::from_secs((number(hours)? * 60 + number(minutes)?) * 60))
}

/// Since 1970-01-01. Years begin in March here, so that the day which is not in every year is their last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_of_months = (153 * month + 2) / 5;
    365 * year + leap_days + days_of_months + day - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        let since = rfc3339(text)?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.unwrap().as_secs())
    }

    #[test]
    fn times_are_read_as_vault_writes_them() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2018-03-22T02:24:06.945319214Z"), Some(1_521_685_446));
        assert_eq!(seconds("2019-05-06T15:26:42.525302-05:00"), Some(1_557_174_402));
        assert_eq!(seconds("2024-02-29T23:59:59+00:30"), Some(1_709_249_399));
        assert_eq!(seconds("2000-03-01T00:00:00Z"), Some(951_868_800));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for bad in [
            "",
            "T",
            "2018-03-22",
            "0000-00-00T00:00:00Z",
            "2018-13-01T00:00:00Z",
            "2018-03-22T02:24Z",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
