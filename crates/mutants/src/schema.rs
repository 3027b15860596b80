//! A source file with all its mutants in it, each behind a question: is it the one that is switched on?
//!
//! Each mutant's own code stands on a line of its own with its number in a comment: what the compiler objects to is found by it.

use crate::mutant::{Genre, Mutant};
use crate::splice::{Edit, Part, splice};
use proc_macro2::Span;
use std::collections::BTreeSet;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The file with these mutants in it, and those that found no place.
pub(crate) fn with_all(source: &str, mutants: &[&Mutant], switch: &str) -> Result<(String, Vec<usize>), syn::Error> {
    let lines: Vec<usize> = core::iter::once(0)
        .chain(source.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    let offset = |(line, column): (usize, usize)| {
        let start = lines.get(line - 1).copied().unwrap_or(source.len());
        let before = source[start..].chars().take(column - 1);
        start + before.map(char::len_utf8).sum::<usize>()
    };
    let mut file = File {
        source,
        switch,
        mutants: mutants.iter().map(|mutant| (offset(mutant.start), *mutant)).collect(),
        placed: BTreeSet::new(),
        edits: Vec::new(),
    };
    file.visit_file(&syn::parse_file(source)?);
    let out = mutants.iter().map(|mutant| mutant.id);
    let out = out.filter(|id| !file.placed.contains(id)).collect();
    Ok((splice(source, &file.edits), out))
}

/// The numbers of the mutants whose own line this is.
pub(crate) fn on_line(line: &str) -> impl Iterator<Item = usize> {
    let marks = line.split("/*M").skip(1);
    marks.filter_map(|rest| rest.split_once("*/")?.0.parse().ok())
}

struct File<'a> {
    source: &'a str,
    /// The path of the function that is asked.
    switch: &'a str,
    mutants: Vec<(usize, &'a Mutant)>,
    placed: BTreeSet<usize>,
    edits: Vec<Edit>,
}

/// What is asked for this mutant, and its mark.
struct Asked {
    on: String,
    mark: String,
    with: String,
}

fn range(span: Span) -> (usize, usize) {
    let bytes = span.byte_range();
    (bytes.start, bytes.end)
}

fn new(text: impl Into<String>) -> Part {
    Part::New(text.into())
}

impl File<'_> {
    /// Takes the mutants of a genre that begin in a range of the source.
    fn take(&mut self, genre: Genre, start: usize, end: usize) -> Vec<Asked> {
        let mut taken = Vec::new();
        for (at, mutant) in &self.mutants {
            if mutant.genre == genre && (start..=end).contains(at) && self.placed.insert(mutant.id) {
                taken.push(Asked {
                    on: format!("{}({})", self.switch, mutant.id),
                    mark: format!("/*M{}*/", mutant.id),
                    with: mutant.replacement.clone(),
                });
            }
        }
        taken
    }

    fn edit(&mut self, start: usize, end: usize, parts: Vec<Part>) {
        self.edits.push(Edit { start, end, parts });
    }

    /// Answers at once. An inner function's mutants begin in the outer one's body too, but behind its first statement.
    fn body(&mut self, block: &syn::Block) {
        let Some(first) = block.stmts.first() else { return };
        let open = range(block.brace_token.span.open()).1;
        let mut text = String::new();
        for Asked { on, mark, with } in self.take(Genre::FnValue, open, range(first.span()).0) {
            text.push_str(&format!("\nif {on} {{ return {with}; }} {mark}\n"));
        }
        if !text.is_empty() {
            self.edit(open, open, vec![new(text)]);
        }
    }

    /// `left op right`, for all the operators that may stand there instead.
    fn binary(&mut self, expr: &syn::ExprBinary) {
        let (at, behind) = range(expr.op.span());
        let asked = self.take(Genre::BinaryOperator, at, at);
        let Some(Asked { on, mark, .. }) = asked.first() else {
            return;
        };
        let op = &self.source[at..behind];
        let ((start, left_end), (right_start, end)) = (range(expr.left.span()), range(expr.right.span()));
        let (left, right) = (Part::Old(start, left_end), Part::Old(right_start, end));
        let only = (asked.len() == 1).then(|| asked[0].with.as_str());
        let parts = match (op, only) {
            ("==", Some("!=")) | ("!=", Some("==")) => vec![
                new(format!("\n({on} ^ {mark} (")),
                left,
                new(format!(" {op} ")),
                right,
                new("))"),
            ],
            ("&&", Some("||")) => vec![
                new("(if ("),
                left,
                new(format!(") ^ {on} {mark} {{ ")),
                right,
                new(format!(" }} else {{ {on} }})")),
            ],
            ("||", Some("&&")) => vec![
                new("(if ("),
                left,
                new(format!(") ^ {on} {mark} {{ !{on} }} else {{ ")),
                right,
                new(" })"),
            ],
            _ if is_assignment(&expr.op) => {
                let mut parts = vec![new("match ("), right, new(") { right => {")];
                for Asked { on, mark, with } in &asked {
                    parts.extend([
                        new(format!("\nif {on} {{ ")),
                        left.clone(),
                        new(format!(" {with} right; }} else {mark}\n")),
                    ]);
                }
                parts.extend([new("{ "), left, new(format!(" {op} right; }} }} }}"))]);
                parts
            }
            _ => {
                let mut parts = vec![
                    new("(match (("),
                    left,
                    new("), ("),
                    right,
                    new(")) { (left, right) => {"),
                ];
                for Asked { on, mark, with } in &asked {
                    parts.push(new(format!("\nif {on} {{ left {with} right }} else {mark}\n")));
                }
                parts.push(new(format!("{{ left {op} right }} }} }})")));
                parts
            }
        };
        self.edit(start, end, parts);
    }

    /// An arm that may be missing, whose guard may say yes or no to all. Only where another arm takes what is left.
    fn arm(&mut self, arm: &syn::Arm, others_take_it: bool) {
        let (start, pat_end) = (range(arm.span()).0, range(arm.pat.span()).1);
        let missing = match others_take_it {
            true => self.take(Genre::MatchArm, start, range(arm.pat.span()).0),
            false => Vec::new(),
        };
        let missing = missing.first().map(|Asked { on, mark, .. }| format!("!{on} {mark}"));
        let Some((_, guard)) = &arm.guard else {
            if let Some(missing) = missing {
                self.edit(pat_end, pat_end, vec![new(format!("\nif {missing}\n"))]);
            }
            return;
        };
        let (start, end) = range(guard.span());
        let mut question = missing
            .map(|missing| format!("\n{missing} && ("))
            .unwrap_or("\n(".into());
        for Asked { on, mark, with } in self.take(Genre::MatchArmGuard, start, start) {
            question.push_str(&match with.as_str() {
                "true" => format!("{on} {mark} || "),
                _ => format!("!{on} {mark} && "),
            });
        }
        self.edit(
            start,
            end,
            vec![new(question + "("), Part::Old(start, end), new("))\n")],
        );
    }
}

fn is_assignment(op: &syn::BinOp) -> bool {
    use syn::BinOp::{
        AddAssign, BitAndAssign, BitOrAssign, BitXorAssign, DivAssign, MulAssign, RemAssign, ShlAssign, ShrAssign,
        SubAssign,
    };
    matches!(
        op,
        AddAssign(_)
            | SubAssign(_)
            | MulAssign(_)
            | DivAssign(_)
            | RemAssign(_)
            | BitXorAssign(_)
            | BitAndAssign(_)
            | BitOrAssign(_)
            | ShlAssign(_)
            | ShrAssign(_)
    )
}

/// What is computed while the program is built has one value in it: mutants in constants are left out.
impl<'ast> Visit<'ast> for File<'_> {
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}

    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.body(&item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        self.binary(expr);
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let (at, behind) = range(expr.op.span());
        if let Some(Asked { on, mark, .. }) = self.take(Genre::UnaryOperator, at, at).pop() {
            let (start, end) = range(expr.expr.span());
            let op = &self.source[at..behind];
            let tail = format!(") {{ value =>\nif {on} {{ value }} else {{ {op}value }} {mark}\n}})");
            self.edit(at, end, vec![new("(match ("), Part::Old(start, end), new(tail)]);
        }
        visit::visit_expr_unary(self, expr);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        let takes_all = |pat: &syn::Pat| match pat {
            syn::Pat::Wild(_) => true,
            syn::Pat::Ident(ident) => ident.subpat.is_none() && ident.ident.to_string().starts_with(char::is_lowercase),
            _ => false,
        };
        let others = expr.arms.iter().any(|arm| arm.guard.is_none() && takes_all(&arm.pat));
        for arm in &expr.arms {
            self.arm(arm, others);
        }
        visit::visit_expr_match(self, expr);
    }

    fn visit_expr_struct(&mut self, expr: &'ast syn::ExprStruct) {
        let rest = expr.rest.as_ref().map(|rest| range(rest.span()));
        for field in &expr.fields {
            let (Some((rest, rest_end)), syn::Member::Named(name)) = (rest, &field.member) else {
                continue;
            };
            let at = range(field.span()).0;
            let Some(Asked { on, mark, .. }) = self.take(Genre::StructField, at, at).pop() else {
                continue;
            };
            let (start, end) = range(field.expr.span());
            let named = if field.colon_token.is_some() {
                String::new()
            } else {
                format!("{name}: ")
            };
            let parts = vec![
                new(format!("\n{named}if {on} {{ (")),
                Part::Old(rest, rest_end),
                new(format!(").{name} }} else {mark}\n{{ ")),
                Part::Old(start, end),
                new(" }"),
            ];
            self.edit(start, end, parts);
        }
        visit::visit_expr_struct(self, expr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(id: usize, genre: Genre, replacement: &str, start: (usize, usize)) -> Mutant {
        Mutant {
            id,
            name: String::new(),
            file: String::new(),
            genre,
            replacement: replacement.into(),
            start,
        }
    }

    /// The text without the lines and marks that are for the compiler's messages.
    fn plain(source: &str, mutants: &[Mutant]) -> String {
        let (text, out) = with_all(source, &mutants.iter().collect::<Vec<_>>(), "on").unwrap();
        assert!(out.is_empty(), "{out:?}");
        let mut text = text.replace('\n', " ");
        for mutant in mutants {
            text = text.replace(&format!(" /*M{}*/", mutant.id), "");
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_function_answers_at_once_with_each_of_its_answers() {
        let source = "fn f() -> bool { g() }";
        let mutants = [
            mutant(1, Genre::FnValue, "true", (1, 18)),
            mutant(2, Genre::FnValue, "false", (1, 18)),
        ];
        assert_eq!(
            plain(source, &mutants),
            "fn f() -> bool { if on(1) { return true; } if on(2) { return false; } g() }"
        );
    }

    #[test]
    fn an_operator_inside_the_operand_of_another_is_changed_wherever_that_is_repeated() {
        let mutants = [
            mutant(1, Genre::BinaryOperator, "||", (1, 31)),
            mutant(2, Genre::BinaryOperator, "!=", (1, 26)),
        ];
        assert_eq!(
            plain("fn f(a: u8, b: bool) { a == 1 && b }", &mutants[1..]),
            "fn f(a: u8, b: bool) { (on(2) ^ (a == 1)) && b }"
        );
        assert_eq!(
            plain("fn f(a: u8, b: bool) { a == 1 && b }", &mutants),
            "fn f(a: u8, b: bool) { (if ( (on(2) ^ (a == 1))) ^ on(1) { b } else { on(1) }) }"
        );
    }

    #[test]
    fn an_arm_goes_missing_only_where_another_takes_what_it_took() {
        let missing = mutant(1, Genre::MatchArm, "", (1, 26));
        assert_eq!(
            plain(
                "fn f(a: u8) { match a {  1 => (), _ => () } }",
                core::slice::from_ref(&missing)
            ),
            "fn f(a: u8) { match a { 1 if !on(1) => (), _ => () } }"
        );
        let all = "fn f(a: bool) { match a { true => (), false => () } }";
        let missing = mutant(1, Genre::MatchArm, "", (1, 27));
        assert_eq!(with_all(all, &[&missing], "on").unwrap(), (all.into(), vec![1]));
    }

    #[test]
    fn a_guard_takes_all_or_nothing_and_the_arm_goes_missing_still() {
        let mutants = [
            mutant(1, Genre::MatchArm, "", (1, 25)),
            mutant(2, Genre::MatchArmGuard, "true", (1, 30)),
            mutant(3, Genre::MatchArmGuard, "false", (1, 30)),
        ];
        assert_eq!(
            plain("fn f(a: u8) { match a { b if b > 1 => (), _ => () } }", &mutants),
            "fn f(a: u8) { match a { b if !on(1) && (on(2) || !on(3) && (b > 1)) => (), _ => () } }"
        );
    }

    #[test]
    fn the_line_of_a_mutant_names_it() {
        let line = "if on(7) { return 1; } /*M7*/ else /*M12*/";
        assert_eq!(on_line(line).collect::<Vec<_>>(), [7, 12]);
    }
}
