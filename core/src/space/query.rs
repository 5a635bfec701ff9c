//! What a space says about a configuration.

use std::collections::BTreeMap;

use super::error::{SpaceError, nearest};
use super::model::{Constraint, Forbid, Parameter, SearchSpace};
use super::search::Allowed;
use crate::value::{Params, Value};

impl SearchSpace {
    /// Parameters by name.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// Names in an order in which every parameter comes after those its condition mentions.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// The forbid clauses, in the order of the file.
    pub fn forbids(&self) -> &[Forbid] {
        &self.forbids
    }

    /// The measured constraints, in the order of the file.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Whether parameter `name` exists in a configuration where the parameters before it in [`Self::order`] have the
    /// values of `params`. A condition that mentions a parameter that is not there does not hold.
    pub fn is_active(&self, name: &str, params: &Params) -> bool {
        self.parameters.get(name).is_some_and(|parameter| match &parameter.when {
            None => true,
            Some(when) => {
                when.variables().iter().all(|parent| params.contains_key(parent)) && when.holds(params).unwrap_or(false)
            }
        })
    }

    /// The first clause that forbids `params`. A clause that mentions a parameter that is not there does not apply.
    pub fn forbidden_by(&self, params: &Params) -> Option<&Forbid> {
        self.forbids.iter().find(|forbid| forbid.applies(params))
    }

    /// The forbid clause that is decided by the parameter at `position` of the order and applies to `params`.
    pub(super) fn forbidden_at(&self, position: usize, params: &Params) -> bool {
        self.decided_at[position].iter().any(|index| self.forbids[*index].applies(params))
    }

    /// Checks a complete configuration: exactly the active parameters, each inside its distribution, none forbidden.
    pub fn check(&self, params: &Params) -> Result<(), SpaceError> {
        self.known(params)?;
        for name in &self.order {
            let parameter = &self.parameters[name];
            match (params.get(name), self.is_active(name, params)) {
                (None, false) => {}
                (None, true) => return Err(SpaceError::Missing(name.clone())),
                (Some(_), false) => return Err(self.inactive(name)),
                (Some(value), true) => {
                    if !parameter.distribution.contains(value) {
                        // The coercion's words when it fails, else the plain ones.
                        let source = parameter.distribution.coerce(value).err().unwrap_or_else(|| {
                            let distribution = parameter.distribution.to_string();
                            crate::distribution::DistributionError::Outside { value: value.clone(), distribution }
                        });
                        return Err(SpaceError::Value { name: name.clone(), source });
                    }
                }
            }
        }
        self.forbidden_by(params).map_or(Ok(()), |forbid| Err(forbidden(forbid)))
    }

    /// Checks parameters that somebody fixes and returns them in the space's own types (1 is 1.0 in a float range).
    ///
    /// # Errors
    /// An unknown name, a value outside its distribution, a condition that these values decide against, or a clause
    /// that they alone make apply.
    pub fn check_fixed(&self, params: &Params) -> Result<Params, SpaceError> {
        self.known(params)?;
        let mut fixed = Params::new();
        for (name, value) in params {
            let coerced = self.parameters[name]
                .distribution
                .coerce(value)
                .map_err(|source| SpaceError::Value { name: name.clone(), source })?;
            fixed.insert(name.clone(), coerced);
        }
        for name in fixed.keys() {
            let decided = self.parameters[name].parents().iter().all(|parent| fixed.contains_key(parent));
            if decided && !self.is_active(name, &fixed) {
                return Err(self.inactive(name));
            }
        }
        self.forbidden_by(&fixed).map_or(Ok(fixed), |forbid| Err(forbidden(forbid)))
    }

    fn known(&self, params: &Params) -> Result<(), SpaceError> {
        match params.keys().find(|name| !self.parameters.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(SpaceError::UnknownParameter {
                place: "configuration".to_owned(),
                name: super::error::shorten(name),
                nearest: nearest(name, self.parameters.keys().map(String::as_str)),
            }),
        }
    }

    fn inactive(&self, name: &str) -> SpaceError {
        let when = self.parameters[name].when().unwrap_or_default().to_owned();
        SpaceError::Inactive { name: name.to_owned(), when }
    }

    /// The defaults of the parameters that have one and are active under the other defaults. Neither need these be
    /// all parameters, nor need the combination be allowed: see [`Self::check_fixed`].
    pub fn defaults(&self) -> Params {
        let mut defaults = Params::new();
        for name in &self.order {
            if let Some(default) = &self.parameters[name].default
                && self.is_active(name, &defaults)
            {
                defaults.insert(name.clone(), default.clone());
            }
        }
        defaults
    }

    /// The space in which each parameter of `fixed` has that value only.
    pub fn restrict(&self, fixed: &Params) -> Result<Self, SpaceError> {
        let mut builder = self.to_builder();
        for (name, value) in self.check_fixed(fixed)? {
            if let Some((distribution, default, _)) = builder.parameters.get_mut(&name) {
                *distribution =
                    distribution.pinned(&value).map_err(|source| SpaceError::Value { name: name.clone(), source })?;
                *default = Some(value);
            }
        }
        builder.build()
    }

    /// The space in which each of `names` is held at its default.
    pub fn without(&self, names: &[&str]) -> Result<Self, SpaceError> {
        let mut fixed = Params::new();
        for name in names {
            self.known(&Params::from([((*name).to_owned(), Value::Null)]))?;
            let default = self.parameters[*name].default.clone();
            fixed.insert((*name).to_owned(), default.ok_or_else(|| SpaceError::NoDefault((*name).to_owned()))?);
        }
        // A conditional parameter whose condition is now off keeps its single value for nobody.
        let mut builder = self.to_builder();
        for (name, value) in fixed {
            if let Some((distribution, ..)) = builder.parameters.get_mut(&name) {
                *distribution =
                    distribution.pinned(&value).map_err(|source| SpaceError::Value { name: name.clone(), source })?;
            }
        }
        builder.build()
    }

    /// Whether some configuration is allowed, as far as a bounded search shows. Always true for a space that was
    /// built, which is refused otherwise.
    pub fn satisfiable(&self) -> bool {
        matches!(self.find_allowed(), Allowed::Found)
    }

    /// Whether a condition or clause mentions parameter `name`, or `name` has a condition.
    pub fn is_involved(&self, name: &str) -> bool {
        self.involved.contains(name)
    }

    /// FNV-1a hash of the sorted parameter names.
    pub fn names_hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.parameters.keys().flat_map(|name| name.bytes().chain([0])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }
}

fn forbidden(forbid: &Forbid) -> SpaceError {
    SpaceError::Forbidden { clause: forbid.expression().to_owned(), why: forbid.why.clone() }
}
