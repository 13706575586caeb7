//! What waits for a commit, and which of it may be committed beside the batch that is under way.
//!
//! Two batches at a time must have nothing in common, or the second would only wait at the database for the first, with
//! locks in its hands. So each work claims the products that it sells and its cart, which stands for all that is its
//! user's: the inbox, the idempotency keys. What claims something of a batch under way is held back until that one has
//! ended, and what comes later and claims something of what is held is held behind it, so that nobody waits for ever.
//! Of a step along an order's life nobody knows what it touches before the order is read, and what admins do to
//! products is rare: such a work claims everything. A product that is put into a cart is claimed by nobody: the database
//! guards it against the only work that minds, its deletion, and that claims everything.
//!
//! Where batches go one at a time nothing is claimed: all that comes waits for the end of the one under way.

use std::collections::HashSet;
use std::iter::once;

use souk_store::ledger::Work;
use souk_store::model::{CartId, ProductId};

use super::Submission;

/// The most works of one batch: more makes a commit longer without making it cheaper.
const MOST_WORKS: usize = 1_024;

/// Which of the batches under way it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Claim {
    Cart(CartId),
    Product(ProductId),
}

/// What a work claims; none if that is everything.
fn claims_of(work: &Work) -> Option<impl Iterator<Item = Claim>> {
    let (cart, lines) = match work {
        Work::Place(order) => (order.cart_id, order.lines.as_slice()),
        Work::EditCart(edit) => (edit.cart_id, [].as_slice()),
        _ => return None,
    };
    Some(once(Claim::Cart(cart)).chain(lines.iter().map(|line| Claim::Product(line.0))))
}

#[derive(Default)]
struct Claims {
    everything: bool,
    some: HashSet<Claim>,
}

impl Claims {
    fn add(&mut self, work: &Work) {
        match claims_of(work) {
            Some(claims) => self.some.extend(claims),
            None => self.everything = true,
        }
    }

    fn concern(&self, work: &Work) -> bool {
        self.everything || claims_of(work).is_none_or(|mut claims| claims.any(|one| self.some.contains(&one)))
    }
}

struct UnderWay {
    ticket: Ticket,
    works: usize,
    /// None at all where batches go one at a time.
    claims: Claims,
}

/// The works that wait, and what is known of those under way.
pub(super) struct Queue {
    /// How many batches there may be under way.
    most: usize,
    under_way: Vec<UnderWay>,
    next: u64,
    /// What could be begun now.
    ready: Vec<Submission>,
    /// What must wait for a batch under way, or for another that must, in the order in which it came.
    held: Vec<Submission>,
    held_claims: Claims,
}

impl Queue {
    /// A queue that gives out this many batches at a time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            under_way: Vec::new(),
            next: 0,
            ready: Vec::new(),
            held: Vec::new(),
            held_claims: Claims::default(),
        }
    }

    pub(super) fn push(&mut self, submission: Submission) {
        if self.must_be_held(&submission.work) {
            self.held_claims.add(&submission.work);
            self.held.push(submission);
        } else {
            self.ready.push(submission);
        }
    }

    fn must_be_held(&self, work: &Work) -> bool {
        self.most > 1
            && !self.under_way.is_empty()
            && (self.held_claims.concern(work)
                || self.under_way.iter().any(|batch| batch.claims.concern(work)))
    }

    /// Whether [`Queue::begin`] gives a batch.
    ///
    /// A second one is worth while when it is no smaller than the one under way: until then it had better grow.
    pub(super) fn can_begin(&self) -> bool {
        let smallest = self.under_way.iter().map(|batch| batch.works).max().unwrap_or(1);
        self.under_way.len() < self.most && self.ready.len() >= smallest
    }

    /// The next batch, if one is worth while now; [`Queue::end`] must be told of its end.
    pub(super) fn begin(&mut self) -> Option<(Ticket, Vec<Submission>)> {
        if !self.can_begin() {
            return None;
        }
        let rest = self.ready.split_off(self.ready.len().min(MOST_WORKS));
        let batch = std::mem::replace(&mut self.ready, rest);
        let mut claims = Claims::default();
        if self.most > 1 {
            batch.iter().for_each(|submission| claims.add(&submission.work));
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.under_way.push(UnderWay { ticket, works: batch.len(), claims });
        if !self.ready.is_empty() {
            self.sort_again();
        }
        Some((ticket, batch))
    }

    /// A batch has ended, whatever became of it.
    pub(super) fn end(&mut self, ticket: Ticket) {
        self.under_way.retain(|batch| batch.ticket != ticket);
        if !self.held.is_empty() {
            self.sort_again();
        }
    }

    /// What was held longest comes first.
    fn sort_again(&mut self) {
        self.held_claims = Claims::default();
        let held = std::mem::take(&mut self.held);
        let ready = std::mem::take(&mut self.ready);
        held.into_iter().chain(ready).for_each(|submission| self.push(submission));
    }
}

#[cfg(test)]
mod tests {
    use souk_store::carts::CartEdit;
    use souk_store::ledger::{EditCart, PlaceOrder, StockMove};
    use souk_store::model::UserId;

    use super::*;
    use crate::ledger::Answer;

    fn waiting(work: Work) -> Submission {
        Submission { work, by: None, span: tracing::Span::none(), answer: Answer::to_nobody() }
    }

    fn order(cart: i64, products: &[i64]) -> Submission {
        waiting(Work::Place(PlaceOrder {
            user_id: UserId(cart),
            cart_id: CartId(cart),
            cart_version: 1,
            lines: products.iter().map(|id| (ProductId(*id), 1)).collect(),
            shipping_address: String::new(),
            phone: String::new(),
            notes: String::new(),
            key: None,
        }))
    }

    fn put(cart: i64, product: i64) -> Submission {
        let edit = CartEdit::Put(ProductId(product), 1);
        waiting(Work::EditCart(EditCart { cart_id: CartId(cart), cart_version: 1, edit }))
    }

    fn stock_move(product: i64) -> Submission {
        waiting(Work::Move(ProductId(product), StockMove::Change(1)))
    }

    fn queue_of(submissions: impl IntoIterator<Item = Submission>) -> Queue {
        let mut queue = Queue::new(2);
        submissions.into_iter().for_each(|submission| queue.push(submission));
        queue
    }

    /// The carts of the next batch's works; those of admins are 0.
    fn begin(queue: &mut Queue) -> Option<(Ticket, Vec<i64>)> {
        let (ticket, batch) = queue.begin()?;
        let cart = |work: &Work| match work {
            Work::Place(order) => order.cart_id.0,
            Work::EditCart(edit) => edit.cart_id.0,
            _ => 0,
        };
        Some((ticket, batch.iter().map(|submission| cart(&submission.work)).collect()))
    }

    #[test]
    fn what_has_nothing_in_common_goes_beside_the_batch_under_way() {
        let mut queue = queue_of([order(1, &[10])]);
        let (_, first) = begin(&mut queue).unwrap();
        queue.push(order(2, &[10]));
        assert!(begin(&mut queue).is_none(), "it wants the same product");
        queue.push(order(3, &[11]));
        let (_, second) = begin(&mut queue).unwrap();
        assert_eq!((first, second), (vec![1], vec![3]));
        queue.push(order(4, &[12]));
        assert!(begin(&mut queue).is_none(), "there are two already");
    }

    #[test]
    fn one_cart_is_in_one_batch_at_a_time() {
        let mut queue = queue_of([put(1, 10)]);
        let (edit, _) = begin(&mut queue).unwrap();
        queue.push(order(1, &[11]));
        assert!(begin(&mut queue).is_none());
        queue.push(put(2, 10));
        assert_eq!(begin(&mut queue).unwrap().1, [2], "carts may get lines of the same product");
        queue.end(edit);
        assert_eq!(begin(&mut queue).unwrap().1, [1]);
    }

    #[test]
    fn what_is_held_is_not_overtaken_by_what_wants_the_same() {
        let mut queue = queue_of([order(1, &[10])]);
        let (first, _) = begin(&mut queue).unwrap();
        queue.push(order(2, &[10, 11]));
        queue.push(order(3, &[11]));
        assert!(begin(&mut queue).is_none(), "3 would take from 2 what 2 waits for");
        queue.end(first);
        assert_eq!(begin(&mut queue).unwrap().1, [2, 3]);
    }

    #[test]
    fn what_may_touch_anything_goes_alone_with_all_that_waits() {
        let mut queue = queue_of([order(1, &[10])]);
        let (first, _) = begin(&mut queue).unwrap();
        queue.push(stock_move(11));
        queue.push(order(2, &[12]));
        assert!(begin(&mut queue).is_none(), "nothing overtakes it");
        queue.end(first);
        let (second, works) = begin(&mut queue).unwrap();
        assert_eq!(works, [0, 2]);
        queue.push(order(3, &[13]));
        queue.push(order(4, &[14]));
        assert!(begin(&mut queue).is_none(), "nothing goes beside it");
        queue.end(second);
        assert_eq!(begin(&mut queue).unwrap().1, [3, 4]);
    }

    #[test]
    fn a_second_batch_waits_until_it_is_no_smaller_than_the_first() {
        let mut queue = queue_of((1..=3).map(|cart| order(cart, &[cart])));
        let (first, _) = begin(&mut queue).unwrap();
        queue.push(order(4, &[4]));
        queue.push(order(5, &[5]));
        assert!(begin(&mut queue).is_none());
        queue.end(first);
        assert_eq!(begin(&mut queue).unwrap().1, [4, 5], "alone it waits for nobody");
    }

    #[test]
    fn one_batch_takes_no_more_than_it_may_and_the_rest_follows() {
        let many = i64::try_from(MOST_WORKS).unwrap() + 5;
        let mut queue = queue_of((1..=many).map(|cart| order(cart, &[10])));
        let (first, works) = begin(&mut queue).unwrap();
        assert_eq!(works.len(), MOST_WORKS);
        assert!(begin(&mut queue).is_none());
        queue.end(first);
        assert_eq!(begin(&mut queue).unwrap().1, (many - 4..=many).collect::<Vec<_>>());
    }

    #[test]
    fn where_one_batch_at_a_time_is_allowed_all_that_waits_follows_in_its_order() {
        let mut queue = Queue::new(1);
        queue.push(order(1, &[10]));
        let (first, _) = begin(&mut queue).unwrap();
        queue.push(order(2, &[11]));
        queue.push(stock_move(12));
        queue.push(order(3, &[10]));
        assert!(begin(&mut queue).is_none());
        queue.end(first);
        assert_eq!(begin(&mut queue).unwrap().1, [2, 0, 3]);
    }
}
