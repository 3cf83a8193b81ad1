//! A small ordered set. Nearly every one of the index has one element, and a tree would take half a kilobyte for it.

#[derive(Debug)]
pub(super) struct Sorted<T> {
    items: Vec<T>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T: Ord> Sorted<T> {
    pub(super) fn insert(&mut self, item: T) {
        if let Err(at) = self.items.binary_search(&item) {
            if self.items.is_empty() {
                self.items.reserve_exact(1);
            }
            self.items.insert(at, item);
        }
    }

    pub(super) fn remove(&mut self, item: &T) {
        if let Ok(at) = self.items.binary_search(item) {
            self.items.remove(at);
        }
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.items.first()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}
