package postgres

// WithPausesAt calls pause before the steps of an append, under their names.
func WithPausesAt(pause func(step string)) Option {
	return func(c *config) { c.hooks.step = pause }
}
