//! Pages that stayed, counted by rule and by holder.

use std::collections::BTreeMap;

use mm_types::Refusal;

/// How many different holders of one rule are told apart; the others are counted together.
const HOLDERS: usize = 32;

/// What one rule held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Pages, over all holders.
    pub count: u64,
    /// Pages by holder: `site=m1+0x3`, `expected=1 found=2`, …; empty text where the rule has none.
    pub holders: BTreeMap<String, u64>,
    /// Pages whose holder came after the table was full.
    pub others: u64,
}

/// Counts of refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused(BTreeMap<&'static str, (Rule, Option<Refusal>)>);

impl Refused {
    /// Counts one page.
    pub fn add(&mut self, refusal: Refusal) {
        let (rule, example) = self.0.entry(refusal.word()).or_default();
        example.get_or_insert(refusal);
        rule.count += 1;
        let text = refusal.to_string();
        let holder = text.strip_prefix(refusal.word()).unwrap_or(&text).trim_start();
        if let Some(count) = rule.holders.get_mut(holder) {
            *count += 1;
        } else if rule.holders.len() < HOLDERS {
            rule.holders.insert(holder.to_owned(), 1);
        } else {
            rule.others += 1;
        }
    }

    /// Returns each rule's word and counts, by word.
    pub fn rules(&self) -> impl Iterator<Item = (&'static str, &Rule)> {
        self.0.iter().map(|(word, (rule, _))| (*word, rule))
    }

    /// Returns how many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.rules().map(|(_, rule)| rule.count).sum()
    }

    /// Returns the lines of a report: each rule with its count and advice, then its most frequent holders.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (word, (rule, example)) in &self.0 {
            let advice = example.map_or("", Refusal::advice);
            lines.push(format!("{:>10}  {word}: {advice}", rule.count));
            let mut holders: Vec<_> = rule.holders.iter().filter(|(holder, _)| !holder.is_empty()).collect();
            holders.sort_by_key(|(_, count)| core::cmp::Reverse(**count));
            for (holder, count) in holders.iter().take(4) {
                lines.push(format!("{count:>14}  held by {holder}"));
            }
            let shown: u64 = holders.iter().take(4).map(|(_, count)| **count).sum();
            if !holders.is_empty() && rule.count > shown {
                lines.push(format!("{:>14}  held by others", rule.count - shown));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mm_types::{Site, SpaceId, Vpn};

    #[test]
    fn pages_are_counted_by_rule_and_by_holder() {
        let mut refused = Refused::default();
        for found in [2, 2, 3] {
            refused.add(Refusal::ExtraReference { expected: 1, found });
        }
        refused.add(Refusal::LockBusy);
        let rules: Vec<_> = refused.rules().map(|(word, rule)| (word, rule.count)).collect();
        assert_eq!(rules, [("extra_reference", 3), ("lock_busy", 1)]);
        let lines = refused.lines().join("\n");
        assert!(lines.contains("2  held by expected=1 found=2"), "{lines}");
        assert!(lines.contains("1  lock_busy: another thread"), "{lines}");
        assert_eq!(refused.total(), 4);
    }

    #[test]
    fn a_thousand_holders_take_no_more_room_than_a_few() {
        let mut refused = Refused::default();
        for page in 0..1000 {
            let site = Site::new(SpaceId::new(1), Vpn::new(page));
            refused.add(Refusal::Mapped { site: Some(site) });
        }
        let (_, rule) = refused.rules().next().unwrap();
        assert_eq!(
            (rule.count, rule.holders.len(), rule.others),
            (1000, HOLDERS, 1000 - HOLDERS as u64)
        );
        assert_eq!(refused.lines().len(), 6);
        assert!(refused.lines()[5].contains("996  held by others"));
    }
}
