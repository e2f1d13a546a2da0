//! Binding of `ARRAY[…]` and of subscripts.

use super::binder::{Binder, literal};
use super::coerce::common_type;
use super::expressions::Site;
use super::names::fold;
use super::scope::Typed;
use sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub fn array(&mut self, items: &[ast::Expr], site: &Site<'_>) -> Result<Typed> {
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            bound.push(self.expr(item, site)?);
        }
        if bound.is_empty() {
            return Err(Error::new(
                SqlState::INDETERMINATE_DATATYPE,
                "cannot determine type of empty array",
            )
            .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let element = common_type(bound.iter().map(|b| &b.ty), "ARRAY")?;
        self.make_array(bound, element)
    }

    pub fn make_array(&mut self, items: Vec<Typed>, element: SqlType) -> Result<Typed> {
        let mut arguments = Vec::with_capacity(items.len());
        for item in items {
            arguments.push(self.coerce_exactly(item, &element)?);
        }
        let ty = match element {
            nested @ SqlType::Array(_) => nested,
            element => SqlType::Array(Box::new(element)),
        };
        let constants: Option<Vec<Datum>> = arguments
            .iter()
            .map(|a| super::binder::constant(&Typed::new(a.clone(), ty.element_type()?)))
            .collect();
        if let (Some(elements), Some(element)) = (constants, ty.element_type())
            && !elements.iter().any(|e| matches!(e, Datum::Array(_)))
        {
            let value = Datum::Array(Arc::new(types::Array::from_elements(element, elements)));
            return Ok(Typed::new(literal(&value, &ty)?, ty));
        }
        let function = super::comparisons::array_constructor();
        let types = vec![ty.element_type().unwrap_or(SqlType::Text); arguments.len()];
        let call = super::functions::FunctionUdf::new(Arc::new(function), types, ty.clone());
        Ok(Typed::new(call.call(arguments), ty))
    }

    pub fn access(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        site: &Site<'_>,
    ) -> Result<Typed> {
        let mut names = Vec::new();
        let mut steps = chain.iter().peekable();
        if let ast::Expr::Identifier(identifier) = root {
            names.push(identifier.clone());
            while let Some(ast::AccessExpr::Dot(ast::Expr::Identifier(part))) = steps.peek() {
                names.push(part.clone());
                steps.next();
            }
        }
        let mut value = match names.as_slice() {
            [] => self.expr(root, site)?,
            [one] => self.column(&fold(one), site)?,
            many => self.compound(many, site)?,
        };
        for step in steps {
            value = match step {
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let index = self.expr(index, site)?;
                    if matches!(value.ty, SqlType::Jsonb) {
                        self.operator("->", value, index)?
                    } else {
                        self.subscript(value, index)?
                    }
                }
                ast::AccessExpr::Subscript(_) => {
                    return Err(Error::unsupported("array slice"));
                }
                ast::AccessExpr::Dot(_) => {
                    return Err(Error::unsupported("field of a composite value"));
                }
            };
        }
        Ok(value)
    }

    fn subscript(&mut self, value: Typed, index: Typed) -> Result<Typed> {
        let Some(element) = value.ty.element_type() else {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    value.ty.bare_name()
                ),
            ));
        };
        let index = self.implicit(index, &SqlType::Int4, |_| {
            Error::new(
                SqlState::DATATYPE_MISMATCH,
                "array subscript must have type integer",
            )
        })?;
        let call = super::functions::FunctionUdf::new(
            Arc::new(super::comparisons::subscript()),
            vec![value.ty, SqlType::Int4],
            element.clone(),
        );
        Ok(Typed::new(call.call(vec![value.expr, index.expr]), element))
    }
}
