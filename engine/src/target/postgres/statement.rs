//! The statements about privileges that `pg_dump` writes: GRANT, REVOKE and ALTER DEFAULT
//! PRIVILEGES, and who gives them if not the owner.

use crate::source::postgres::session::ident;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Grant,
    Revoke,
    /// ALTER DEFAULT PRIVILEGES
    Default,
}

/// One statement about privileges.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    /// As the archive has it, without its semicolon.
    pub(crate) sql: String,
    /// Who gave the privilege, if not the object's owner; the role whose default privileges they are.
    on_behalf: Option<String>,
    /// Who has it or loses it; none for PUBLIC.
    grantee: Option<String>,
}

impl Statement {
    /// The roles that must be there for it.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        self.on_behalf.iter().chain(&self.grantee).map(String::as_str)
    }

    /// The role that must be acted for.
    pub(crate) fn acts_for(&self) -> Option<&str> {
        self.on_behalf.as_deref()
    }

    /// Who has the privilege or loses it; none for PUBLIC.
    pub(crate) fn grantee(&self) -> Option<&str> {
        self.grantee.as_deref()
    }

    /// The statement as its grantor would have given it.
    pub(crate) fn run_as_grantor(&self) -> String {
        match &self.on_behalf {
            Some(grantor) if self.kind != Kind::Default => {
                format!("SET LOCAL ROLE {}; {}; RESET ROLE;", ident(grantor), self.sql)
            }
            _ => format!("{};", self.sql),
        }
    }
}

/// A word or a quoted name, quotes off. Only words can be keywords.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Name(String),
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word == keyword)
    }

    /// The role of this name; none for PUBLIC.
    fn role(&self) -> Option<String> {
        let (Self::Word(name) | Self::Name(name)) = self;
        (!self.is("PUBLIC")).then(|| name.clone())
    }
}

/// The statements of an entry. `None` when one of them is not known.
pub(crate) fn statements(definition: &str) -> Option<Vec<Statement>> {
    let (mut found, mut grantor) = (Vec::new(), None);
    for (sql, tokens) in split(definition)? {
        let words = |keywords: &str| {
            keywords
                .split(' ')
                .enumerate()
                .all(|(at, word)| tokens.get(at).is_some_and(|token| token.is(word)))
        };
        let (kind, on_behalf) = if words("SET SESSION AUTHORIZATION") {
            grantor = tokens.get(3)?.role();
            continue;
        } else if words("RESET SESSION AUTHORIZATION") {
            grantor = None;
            continue;
        } else if words("GRANT") {
            (Kind::Grant, grantor.clone())
        } else if words("REVOKE") {
            (Kind::Revoke, grantor.clone())
        } else if words("ALTER DEFAULT PRIVILEGES FOR ROLE") {
            (Kind::Default, tokens.get(5)?.role())
        } else {
            return None;
        };
        let grantee = grantee(&tokens)?.role();
        found.push(Statement { kind, sql, on_behalf, grantee });
    }
    Some(found)
}

/// The last name, behind TO or FROM.
fn grantee(tokens: &[Token]) -> Option<&Token> {
    let with_option = |tail: &[Token]| tail[0].is("WITH") && tail[1].is("GRANT") && tail[2].is("OPTION");
    let tokens = match tokens.split_last_chunk::<3>() {
        Some((before, tail)) if with_option(tail) => before,
        _ => tokens,
    };
    let [.., direction, grantee] = tokens else { return None };
    (direction.is("TO") || direction.is("FROM")).then_some(grantee)
}

/// Cuts a text at its semicolons, but for those in names. `None` for a text with a string or a
/// comment in it: nothing here has one.
fn split(text: &str) -> Option<Vec<(String, Vec<Token>)>> {
    let (mut found, mut tokens, mut start) = (Vec::new(), Vec::new(), 0);
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            ';' => {
                found.push((text[start..at].trim().to_owned(), std::mem::take(&mut tokens)));
                start = at + 1;
            }
            '"' => {
                let mut name = String::new();
                loop {
                    match letters.next()?.1 {
                        // Two quotes are one of the name, one ends it.
                        '"' if letters.next_if(|(_, next)| *next == '"').is_some() => name.push('"'),
                        '"' => break,
                        other => name.push(other),
                    }
                }
                tokens.push(Token::Name(name));
            }
            letter if is_of_word(letter) => {
                let mut word = String::from(letter);
                while let Some((_, next)) = letters.next_if(|(_, next)| is_of_word(*next)) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            '\'' | '\\' => return None,
            '-' if letters.peek().is_some_and(|(_, next)| *next == '-') => return None,
            _ => {}
        }
    }
    text[start..].trim().is_empty().then_some(found)
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(Kind, Vec<String>)> {
        let found = statements(text).unwrap();
        found.iter().map(|one| (one.kind, one.roles().map(str::to_owned).collect())).collect()
    }

    #[test]
    fn roles_are_found_behind_everything_that_may_stand_before_them() {
        let text = "REVOKE ALL ON TABLE public.orders FROM PUBLIC;\n\
                    GRANT SELECT(id),UPDATE(\"to; x\") ON TABLE public.orders TO \"Read \"\"er\" WITH GRANT OPTION;\n\
                    GRANT ALL ON FUNCTION public.f(a integer, \"b TO c\" text) TO option;\n\
                    GRANT SELECT ON TABLE public.\" TO PUBLIC;\" TO \"PUBLIC\";\n";
        let roles = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read(text),
            [
                (Kind::Revoke, roles(&[])),
                (Kind::Grant, roles(&["Read \"er"])),
                (Kind::Grant, roles(&["option"])),
                (Kind::Grant, roles(&["PUBLIC"])),
            ]
        );
        let text = "ALTER DEFAULT PRIVILEGES FOR ROLE shop IN SCHEMA public GRANT SELECT ON TABLES  TO boss;\n\
                    ALTER DEFAULT PRIVILEGES FOR ROLE \"Shop\" REVOKE ALL ON FUNCTIONS  FROM PUBLIC;\n";
        assert_eq!(
            read(text),
            [(Kind::Default, roles(&["shop", "boss"])), (Kind::Default, roles(&["Shop"]))]
        );
    }

    #[test]
    fn a_grant_of_another_than_the_owner_is_run_as_that_one() {
        let text = "GRANT SELECT ON TABLE public.t TO boss WITH GRANT OPTION;\nSET SESSION AUTHORIZATION \"Bo;ss\";\n\
                    GRANT SELECT ON TABLE public.t TO clerk;\nRESET SESSION AUTHORIZATION;\n\
                    GRANT SELECT ON TABLE public.t TO other;\n";
        let found = statements(text).unwrap();
        let run: Vec<String> = found.iter().map(Statement::run_as_grantor).collect();
        assert_eq!(
            run,
            [
                "GRANT SELECT ON TABLE public.t TO boss WITH GRANT OPTION;",
                "SET LOCAL ROLE \"Bo;ss\"; GRANT SELECT ON TABLE public.t TO clerk; RESET ROLE;",
                "GRANT SELECT ON TABLE public.t TO other;",
            ]
        );
        assert_eq!(found[1].roles().collect::<Vec<_>>(), ["Bo;ss", "clerk"]);
    }

    #[test]
    fn what_pg_dump_does_not_write_is_not_known() {
        for text in [
            "DROP TABLE t;",
            "GRANT SELECT ON t TO a",
            "GRANT SELECT ON t;",
            "GRANT SELECT ON t TO \"a;",
            "GRANT SELECT ON t TO 'a';",
            "GRANT SELECT ON t TO a; -- b\n;",
            "SET SESSION AUTHORIZATION;",
            ";",
        ] {
            assert_eq!(statements(text), None, "{text}");
        }
        assert_eq!(statements(""), Some(Vec::new()));
    }
}
