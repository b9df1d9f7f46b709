//! Form fields: a visible label, a hint, and an error tied to the input.

use maud::{Markup, html};

use super::tag::Environment;

/// A one-line input.
#[derive(Debug)]
pub struct Field<'a> {
    /// The name it is submitted under, also its id.
    pub name: &'a str,
    /// The visible label.
    pub label: &'a str,
    /// `text`, `email`, `password`, ...
    pub kind: &'a str,
    /// What was typed before; never a secret.
    pub value: &'a str,
    /// What to type, below the label.
    pub hint: Option<&'a str>,
    /// Why it was not accepted.
    pub error: Option<&'a str>,
    /// The value of `autocomplete`.
    pub autocomplete: &'a str,
    /// Whether it holds code: a URL, a phrase to repeat.
    pub code: bool,
    /// Whether it may stay empty.
    pub optional: bool,
    /// What tells it from a field of the same name in another form of the page.
    pub of: Option<&'a str>,
}

impl<'a> Field<'a> {
    /// A required text field.
    pub fn text(name: &'a str, label: &'a str, value: &'a str) -> Self {
        Self {
            name,
            label,
            kind: "text",
            value,
            hint: None,
            error: None,
            autocomplete: "off",
            code: false,
            optional: false,
            of: None,
        }
    }

    /// A field for a database URL or a phrase: monospace, no spelling help.
    pub fn code(name: &'a str, label: &'a str, value: &'a str) -> Self {
        Self { code: true, ..Self::text(name, label, value) }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: &'a str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds the reason for not accepting it, if there is one.
    #[must_use]
    pub fn error(mut self, error: Option<&'a str>) -> Self {
        self.error = error;
        self
    }

    /// The label, hint, input and error.
    pub fn render(&self) -> Markup {
        let field_id = self.of.map_or_else(|| self.name.to_owned(), |of| format!("{}-{of}", self.name));
        let hint_id = self.hint.map(|_| format!("{field_id}-hint"));
        let error_id = self.error.map(|_| format!("{field_id}-error"));
        let described: Vec<&str> = [&hint_id, &error_id].into_iter().flatten().map(String::as_str).collect();
        html! {
            div.field {
                label for=(field_id) { (self.label) @if self.optional { span.optional { " (optional)" } } }
                @if let (Some(hint), Some(id)) = (self.hint, &hint_id) { p.hint #(id) { (hint) } }
                input #(field_id) name=(self.name) type=(self.kind) value=[self.shown_value()]
                    .code[self.code] autocomplete=(self.autocomplete)
                    spellcheck=[self.code.then_some("false")] autocapitalize=[self.code.then_some("none")]
                    required[!self.optional]
                    aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[(!described.is_empty()).then(|| described.join(" "))];
                @if let (Some(error), Some(id)) = (self.error, &error_id) { p.error #(id) { (error) } }
            }
        }
    }

    fn shown_value(&self) -> Option<&str> {
        (self.kind != "password" && !self.value.is_empty()).then_some(self.value)
    }
}

/// A button that submits a form of its own.
pub fn post_button(action: &str, words: &str, class: &str) -> Markup {
    html! {
        form.inline method="post" action=(action) { button.(class) type="submit" { (words) } }
    }
}

/// The choice of an environment.
pub fn environments(chosen: Environment) -> Markup {
    html! {
        fieldset.choices {
            legend { "Environment" }
            @for environment in Environment::ALL {
                label {
                    input type="radio" name="environment" value=(environment.as_str()) required
                        checked[chosen == environment];
                    (environment.name())
                }
            }
        }
    }
}

/// A box to tick, with what ticking it means below its words. `name` is also its id.
pub fn checkbox(name: &str, label: &str, explanation: &str, checked: bool) -> Markup {
    html! {
        div.check {
            label for=(name) {
                input #(name) type="checkbox" name=(name) value="yes" checked[checked]
                    aria-describedby=(format!("{name}-hint"));
                span { (label) }
            }
            p.hint #(format!("{name}-hint")) { (explanation) }
        }
    }
}
