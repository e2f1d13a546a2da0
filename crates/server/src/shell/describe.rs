//! `\d name`: a relation's columns, indexes and constraints.

use crate::shell::{Shell, ShellError, catalog};

impl Shell {
    pub(super) fn describe(&mut self, name: &str) -> Result<(), ShellError> {
        let found = self.rows(&catalog::find_relation(name))?;
        if found.is_empty() {
            return Err(ShellError(format!("there is no relation named {name}")));
        }
        for relation in found {
            let mut fields = relation.into_iter().map(Option::unwrap_or_default);
            let mut field = || fields.next().unwrap_or_default();
            let (oid, kind, schema, relation) = (field(), field(), field(), field());
            // Goes into the next queries as it stands.
            if oid.parse::<u32>().is_err() {
                return Err(ShellError(format!("{oid} is not an object id")));
            }
            let what = match kind.as_str() {
                "r" => "Table",
                "v" => "View",
                "S" => "Sequence",
                "i" => "Index",
                _ => "Relation",
            };
            println!("{what} {schema}.{relation}");
            self.show(&catalog::columns(&oid))?;
            self.list("Indexes", &catalog::indexes_of(&oid))?;
            self.list("Constraints", &catalog::constraints_of(&oid))?;
            self.list("Referenced by", &catalog::references_to(&oid))?;
        }
        Ok(())
    }

    fn list(&mut self, title: &str, query: &str) -> Result<(), ShellError> {
        let rows = self.rows(query)?;
        if !rows.is_empty() {
            println!("{title}:");
        }
        for row in rows {
            let words: Vec<String> = row.into_iter().flatten().collect();
            println!("    {}", words.join("  "));
        }
        Ok(())
    }
}
