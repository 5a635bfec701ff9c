//! Columns that take little memory for each of very many rows.

use std::ops::Range;

/// Lost entries that are put up with, whatever the length.
const FEW: usize = 1_024;

/// A slice for every row, all in one place. A row may be set again; rows that were never set are empty.
#[derive(Clone, Debug)]
pub(super) struct Ragged<T> {
    spans: Vec<Span>,
    flat: Vec<T>,
    /// Entries that no row has any more.
    lost: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn new(start: usize, len: usize) -> Self {
        let small = |number| u32::try_from(number).expect("so many entries fit into no memory");
        Self { start: small(start), len: small(len) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

impl<T> Default for Ragged<T> {
    fn default() -> Self {
        Self { spans: Vec::new(), flat: Vec::new(), lost: 0 }
    }
}

impl<T: Copy> Ragged<T> {
    /// Makes room for `rows` rows of `each` entries.
    pub fn reserve(&mut self, rows: usize, each: usize) {
        self.spans.reserve_exact(rows);
        self.flat.reserve_exact(rows.saturating_mul(each));
    }

    /// What `row` has.
    pub fn get(&self, row: usize) -> &[T] {
        self.spans.get(row).map_or(&[], |span| &self.flat[span.range()])
    }

    /// Sets `row`. Costs its length, averaged over many.
    pub fn set(&mut self, row: usize, entries: &[T]) {
        if self.spans.len() <= row {
            self.spans.resize(row + 1, Span::default());
        }
        let span = self.spans[row];
        if span.len as usize == entries.len() {
            self.flat[span.range()].copy_from_slice(entries);
            return;
        }
        self.lost += span.len as usize;
        self.spans[row] = Span::new(self.flat.len(), entries.len());
        self.flat.extend_from_slice(entries);
        if self.lost > FEW && self.lost > self.flat.len() / 2 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut flat = Vec::with_capacity(self.flat.len() - self.lost);
        for span in &mut self.spans {
            let entries = &self.flat[span.range()];
            *span = Span::new(flat.len(), entries.len());
            flat.extend_from_slice(entries);
        }
        self.flat = flat;
        self.lost = 0;
    }
}

/// Whole numbers that may be missing, 8 bytes each. The smallest there is stands for none.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole(Vec<i64>);

impl Whole {
    /// Makes room for `rows` rows.
    pub fn reserve(&mut self, rows: usize) {
        self.0.reserve_exact(rows);
    }

    /// The number of `row`.
    pub fn get(&self, row: usize) -> Option<i64> {
        self.0.get(row).copied().filter(|&number| number != i64::MIN)
    }

    /// Sets `row`; rows between have none.
    pub fn set(&mut self, row: usize, number: Option<i64>) {
        if self.0.len() <= row {
            self.0.resize(row + 1, i64::MIN);
        }
        self.0[row] = number.unwrap_or(i64::MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_they_were_given_last_and_lost_room_is_won_back() {
        let mut column = Ragged::default();
        let entries = |row: usize, round: usize| vec![row * 1_000 + round; (row * 7 + round) % 5];
        for round in 0..200 {
            for row in (0..50).rev() {
                column.set(row, &entries(row, round));
            }
        }
        for row in 0..50 {
            assert_eq!(column.get(row), entries(row, 199), "{row}");
        }
        assert_eq!(column.get(50), &[] as &[usize]);
        // 20,000 entries went through; at most 200 are kept at a time.
        assert!(column.flat.len() <= 2 * FEW + 200, "{}", column.flat.len());
    }

    #[test]
    fn numbers_may_be_missing() {
        let mut column = Whole::default();
        column.set(2, Some(-1));
        column.set(3, Some(0));
        column.set(3, None);
        assert_eq!([0, 1, 2, 3, 4].map(|row| column.get(row)), [None, None, Some(-1), None, None]);
    }
}
