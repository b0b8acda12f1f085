//! When the open journal is closed, and which sealed segments become one. Pure: time and sizes come in, a decision comes out.

use std::ops::Range;
use std::time::Duration;

use ballast_repository::{SEGMENT_BYTES_MAX, SegmentPlace};

/// While no repository takes segments, a journal is closed this late at the latest: a day of that is 1440 files, not 86,400.
const WAITING_SEAL_AFTER: Duration = Duration::from_secs(60);
/// So many segments may be on their way before that begins.
const WAITING_MAX: usize = 4;

/// So many neighbours of one size become one. Each byte is written again once for each size it goes through.
const MERGED_MIN: usize = 16;
/// Segments below these sizes are of one size each; those above the last are left as they are.
const SIZES: [u64; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];
/// Larger ones are merged by fewer: sixteen of them would not fit.
const LARGE_MERGED_MIN: usize = 4;
const LARGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whether the open journal, which holds something since `age`, is closed now. Its size is looked at where bytes are written.
pub(crate) fn due(age: Duration, seal_after: Duration, waiting: usize) -> bool {
    if waiting > WAITING_MAX {
        age >= seal_after.max(WAITING_SEAL_AFTER)
    } else {
        age >= seal_after
    }
}

/// Which of `places`, neighbours in their order, become one segment next: the smallest first.
pub(crate) fn merge_next(places: &[SegmentPlace]) -> Option<Range<usize>> {
    let small = SIZES.iter().map(|size| (*size, MERGED_MIN, 0));
    let sizes = small.chain([(LARGE_BYTES_MAX, LARGE_MERGED_MIN, LARGE_BYTES_MAX)]);
    sizes
        .into_iter()
        .find_map(|(size, merged_min, bytes_min)| run_of(places, size, merged_min, bytes_min))
}

/// A run of at least `merged_min` segments below `size`, and of `bytes_min` in all, as many of them as fit into one.
fn run_of(places: &[SegmentPlace], size: u64, merged_min: usize, bytes_min: u64) -> Option<Range<usize>> {
    let mut begin = 0;
    while begin < places.len() {
        let (mut end, mut bytes) = (begin, 0);
        while let Some(place) = places.get(end) {
            let length = length(place);
            let joins = end == begin || places.get(end - 1).is_some_and(|before| before.end == place.start);
            if length >= size || bytes + length > SEGMENT_BYTES_MAX as u64 || !joins {
                break;
            }
            bytes += length;
            end += 1;
        }
        if end - begin >= merged_min && bytes >= bytes_min {
            return Some(begin..end);
        }
        begin = end.max(begin + 1);
    }
    None
}

fn length(place: &SegmentPlace) -> u64 {
    place.end.saturating_sub(place.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The place of one segment with the bytes of `parts`.
    fn merged_place(parts: &[SegmentPlace]) -> Option<SegmentPlace> {
        let (first, last) = (parts.first()?, parts.last()?);
        let told = |at: &u64| *at != 0;
        Some(SegmentPlace {
            start: first.start,
            end: last.end,
            first_at: parts.iter().map(|part| part.first_at).find(told).unwrap_or(0),
            last_at: parts.iter().rev().map(|part| part.last_at).find(told).unwrap_or(0),
        })
    }

    fn places(lengths: &[u64]) -> Vec<SegmentPlace> {
        let mut start = 0;
        lengths
            .iter()
            .map(|length| {
                let place = SegmentPlace {
                    start,
                    end: start + length,
                    first_at: start + 1,
                    last_at: start + 1,
                };
                start += length;
                place
            })
            .collect()
    }

    #[test]
    fn a_journal_is_closed_in_time_and_later_while_nobody_takes_it() {
        let second = Duration::from_secs(1);
        for (age_ms, waiting, closed) in [
            (999, 0, false),
            (1000, 0, true),
            (1000, 4, true),
            (1000, 5, false),
            (59_999, 500, false),
            (60_000, 500, true),
        ] {
            assert_eq!(
                due(Duration::from_millis(age_ms), second, waiting),
                closed,
                "{age_ms} ms, {waiting} waiting"
            );
        }
        let hour = Duration::from_secs(3600);
        assert!(!due(Duration::from_secs(60), hour, 500), "no sooner than asked for");
    }

    #[test]
    fn neighbours_of_one_size_are_merged_and_large_ones_left() {
        const MIB: u64 = 1024 * 1024;
        for (lengths, merged) in [
            (vec![300; 15], None),
            (vec![300; 16], Some(0..16)),
            (vec![300; 40], Some(0..40)),
            ([vec![5000], vec![300; 16]].concat(), Some(1..17)),
            (vec![5000, 300, 5000, 300], None),
            ([5000, 300].repeat(8), Some(0..16)),
            (vec![2 * MIB; 3], None),
            (vec![2 * MIB; 9], Some(0..8)),
            (vec![8 * MIB; 40], None),
            (vec![16 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB], Some(1..5)),
        ] {
            assert_eq!(merge_next(&places(&lengths)), merged, "{lengths:?}");
        }
    }

    #[test]
    fn over_a_hole_nothing_is_merged() {
        let mut list = places(&[300; 20]);
        for place in &mut list[10..] {
            place.start += 7;
            place.end += 7;
        }
        assert_eq!(merge_next(&list), None);
    }

    proptest! {
        #[test]
        fn merging_ends_with_few_and_writes_each_byte_a_few_times(lengths in proptest::collection::vec(1u64..200_000, 0..800)) {
            let mut list = places(&lengths);
            let total: u64 = lengths.iter().sum();
            let mut written = 0;
            while let Some(range) = merge_next(&list) {
                let merged = merged_place(&list[range.clone()]).unwrap();
                prop_assert!(range.len() >= LARGE_MERGED_MIN);
                prop_assert!(length(&merged) <= SEGMENT_BYTES_MAX as u64);
                prop_assert_eq!(length(&merged), list[range.clone()].iter().map(length).sum::<u64>());
                prop_assert_eq!(merged.first_at, list[range.start].first_at);
                prop_assert_eq!(merged.last_at, list[range.end - 1].last_at);
                written += length(&merged);
                list.splice(range, [merged]);
            }
            prop_assert!(written <= total * 8, "{written} of {total}");
            prop_assert!(list.windows(2).all(|pair| pair[0].end == pair[1].start));
            // A few of each size at most stand alone between two large ones.
            prop_assert!(list.len() as u64 <= 4 * MERGED_MIN as u64 + 8 * (total / LARGE_BYTES_MAX), "{} left", list.len());
        }
    }
}
