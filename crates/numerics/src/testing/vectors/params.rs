//! Parameters of a case: typed access that notes what was read.

use serde_json::Value;

use super::{Case, VectorError};

/// Parameters. Forms with `opt` take an absent parameter and `null` as `None`.
impl Case {
    /// The raw JSON of a parameter.
    ///
    /// # Errors
    ///
    /// [`VectorError::MissingParam`] if the file lacks it.
    pub fn param_value(&self, name: &str) -> Result<&Value, VectorError> {
        let (value, used) = self
            .params
            .get(name)
            .ok_or_else(|| VectorError::MissingParam(name.to_owned()))?;
        used.set(true);
        Ok(value)
    }

    /// True if the file has the parameter, `null` included. Does not mark it as read.
    #[must_use]
    pub fn has_param(&self, name: &str) -> bool {
        self.params.contains_key(name)
    }

    /// Marks a parameter as read that only says in words which convention the case follows.
    ///
    /// Does nothing where it is absent. A value that is not text stays unread, and so fails the run.
    pub fn note(&self, name: &str) {
        if let Some((Value::String(_), used)) = self.params.get(name) {
            used.set(true);
        }
    }

    /// The error for a value that the op does not know.
    #[must_use]
    pub fn unknown_param(&self, name: &str, expected: &str) -> VectorError {
        let got = self
            .params
            .get(name)
            .map_or_else(|| "none".to_owned(), |(value, _)| value.to_string());
        VectorError::Param {
            name: name.to_owned(),
            expected: expected.to_owned(),
            got,
        }
    }

    /// A list of numbers.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingParam`] if the file lacks it.
    /// - [`VectorError::Param`] if it is not a list of numbers.
    pub fn param_f64_list(&self, name: &str) -> Result<Vec<f64>, VectorError> {
        self.list(name, Value::as_f64, "a list of numbers")
    }

    /// A list of integers that are not negative.
    ///
    /// # Errors
    ///
    /// - [`VectorError::MissingParam`] if the file lacks it.
    /// - [`VectorError::Param`] if it is anything else.
    pub fn param_usize_list(&self, name: &str) -> Result<Vec<usize>, VectorError> {
        self.list(name, to_usize, "a list of integers that are not negative")
    }

    fn list<T>(
        &self,
        name: &str,
        convert: fn(&Value) -> Option<T>,
        expected: &str,
    ) -> Result<Vec<T>, VectorError> {
        let list = self.param_value(name)?.as_array();
        list.and_then(|list| list.iter().map(convert).collect())
            .ok_or_else(|| self.unknown_param(name, expected))
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        convert: fn(&'a Value) -> Option<T>,
        expected: &str,
    ) -> Result<T, VectorError> {
        convert(self.param_value(name)?).ok_or_else(|| self.unknown_param(name, expected))
    }
}

/// Writes the required and the optional accessor of one type.
macro_rules! params {
    ($($required:ident $optional:ident $convert:path, $type:ty, $doc:literal;)*) => {
        impl Case {$(
            #[doc = concat!("The parameter as ", $doc, ".")]
            ///
            /// # Errors
            ///
            /// - [`VectorError::MissingParam`] if the file lacks it.
            /// - [`VectorError::Param`] if it is anything else.
            pub fn $required(&self, name: &str) -> Result<$type, VectorError> {
                self.typed(name, $convert, $doc)
            }

            #[doc = concat!("The parameter as ", $doc, ", `None` where it is absent or `null`.")]
            ///
            /// # Errors
            ///
            /// [`VectorError::Param`] if it is anything else.
            pub fn $optional(&self, name: &str) -> Result<Option<$type>, VectorError> {
                match self.params.get(name) {
                    None => Ok(None),
                    Some((Value::Null, used)) => {
                        used.set(true);
                        Ok(None)
                    }
                    Some(_) => self.$required(name).map(Some),
                }
            }
        )*}
    };
}

params! {
    param_f64 param_opt_f64 Value::as_f64, f64, "a number";
    param_usize param_opt_usize to_usize, usize, "an integer that is not negative";
    param_i64 param_opt_i64 Value::as_i64, i64, "an integer";
    param_bool param_opt_bool Value::as_bool, bool, "a Boolean";
    param_str param_opt_str Value::as_str, &str, "a string";
}

fn to_usize(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|value| usize::try_from(value).ok())
}
