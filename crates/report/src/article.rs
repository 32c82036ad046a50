//! A page of knowledge as text: a title, and sections of paragraphs and marked lines.

use crate::Style;
use crate::paper::{Paper, Tone};

/// What there is to say of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Article {
    /// What it is about.
    pub title: String,
    /// What is said of it first.
    pub lead: Vec<String>,
    /// The rest, in order.
    pub sections: Vec<Section>,
}

/// A part of an article.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// Lines with what stands before them (`0x8: `); further lines of the same one start below its first word.
    pub items: Vec<(String, String)>,
}

/// The article as text, ending with one line feed.
pub fn article(article: &Article, style: Style) -> String {
    let mut paper = Paper::new(style);
    paper.heading(&article.title);
    for paragraph in &article.lead {
        paper.paragraph(2, paragraph);
    }
    for section in article.sections.iter().filter(|section| !section.items.is_empty()) {
        paper.heading(&section.heading);
        for (mark, text) in &section.items {
            paper.item(2, mark, Tone::Plain, text);
        }
    }
    paper.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_sections_are_left_out_and_lines_wrap_below_their_first_word() {
        let page = Article {
            title: "7f".to_owned(),
            lead: vec!["A trap.".to_owned()],
            sections: vec![
                Section { heading: "Nothing".to_owned(), items: Vec::new() },
                Section {
                    heading: "Arguments".to_owned(),
                    items: vec![("1  ".to_owned(), "word ".repeat(40))],
                },
            ],
        };
        let text = article(&page, Style { colour: false, width: 80 });
        assert!(text.starts_with("7f\n  A trap.\n\nArguments\n  1  word word"));
        assert!(text.contains("\n     word") && !text.contains("Nothing"), "{text}");
    }
}
