//! The HTML of a page: every text is escaped here, and nowhere else is markup written.

use crate::figure::svg::{self, escaped};
use crate::figure::{Figure, Table};

/// Widths, colours and tables; for paper too.
const STYLE: &str = "body{font:14px/1.5 Helvetica,Arial,sans-serif;color:#22262b;max-width:960px;margin:24px auto;padding:0 16px}\
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid #d5dae0}h3{font-size:15px;margin:16px 0 4px}\
p,figure{margin:6px 0}.muted{color:#5c6570}table{border-collapse:collapse;margin:6px 0;font-size:13px}\
th,td{text-align:left;padding:2px 12px 2px 0;vertical-align:top;border-bottom:1px solid #e1e5ea;overflow-wrap:anywhere}\
th{color:#5c6570;font-weight:normal}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
pre,code{font:12px/1.4 monospace;white-space:pre-wrap;overflow-wrap:anywhere}pre{background:#f4f6f8;padding:6px 8px;margin:4px 0}\
svg{max-width:100%;height:auto}summary{cursor:pointer;color:#0060a8}.ok{color:#00734f}.bad{color:#b3261e}\
@media print{body{margin:0;max-width:none}h2,h3{break-after:avoid}figure,tr{break-inside:avoid}}";

/// A page being written.
pub struct Page {
    html: String,
}

impl Page {
    pub fn new(title: &str) -> Self {
        // The policy forbids what the page does not do anyway: to load or run anything.
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
            escaped(title)
        );
        Self { html }
    }

    fn element(&mut self, tag: &str, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.html.push_str(&format!("<{tag}{class}>{}</{tag}>\n", escaped(text)));
    }

    /// The title of the page.
    pub fn title(&mut self, text: &str) {
        self.element("h1", "", text);
    }
    /// The title of a section.
    pub fn section(&mut self, text: &str) {
        self.element("h2", "", text);
    }
    /// The title of a part.
    pub fn part(&mut self, text: &str) {
        self.element("h3", "", text);
    }
    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.element("p", "", text);
    }
    /// A paragraph of less weight.
    pub fn note(&mut self, text: &str) {
        self.element("p", "muted", text);
    }
    /// A paragraph that is good or bad news.
    pub fn verdict(&mut self, good: bool, text: &str) {
        self.element("p", if good { "ok" } else { "bad" }, text);
    }
    /// Text as it is.
    pub fn verbatim(&mut self, text: &str) {
        self.element("pre", "", text);
    }

    /// A picture in the page.
    pub fn figure(&mut self, figure: &Figure) {
        self.html.push_str(&format!("<figure>{}</figure>\n", svg::element(figure)));
    }

    /// A table; columns of numbers are aligned at the right.
    pub fn table(&mut self, table: &Table) {
        let numbers: Vec<bool> = (0..table.columns.len())
            .map(|i| {
                let mut cells = table.rows.iter().filter_map(|row| row.get(i)).peekable();
                cells.peek().is_some() && cells.all(|cell| !matches!(cell, crate::figure::Cell::Text(_)))
            })
            .collect();
        let class = |i: usize| if numbers.get(i) == Some(&true) { " class=\"n\"" } else { "" };
        self.html.push_str("<table>\n<tr>");
        for (i, name) in table.columns.iter().enumerate() {
            self.html.push_str(&format!("<th{}>{}</th>", class(i), escaped(name)));
        }
        self.html.push_str("</tr>\n");
        for row in &table.rows {
            self.html.push_str("<tr>");
            for (i, cell) in row.iter().enumerate() {
                self.html.push_str(&format!("<td{}>{}</td>", class(i), escaped(&cell.short())));
            }
            self.html.push_str("</tr>\n");
        }
        self.html.push_str("</table>\n");
    }

    /// Something folded under a title; without a script.
    pub fn folded(&mut self, title: &str, contents: impl FnOnce(&mut Self)) {
        self.html.push_str(&format!("<details><summary>{}</summary>\n", escaped(title)));
        contents(self);
        self.html.push_str("</details>\n");
    }

    pub fn finish(mut self) -> String {
        self.html.push_str("</body>\n</html>\n");
        self.html
    }
}
