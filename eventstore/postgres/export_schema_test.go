package postgres

import "reflect"

// Schema is the script by which a store is made.
func Schema() string { return schema }

// WithMigrations is a program that knows these formats.
func WithMigrations(scripts ...string) Option {
	return func(c *config) { c.hooks.migrations = scripts }
}

// WithoutMigrationLock is the control: who migrates does not wait for another who does.
// meet is called by each before the script.
func WithoutMigrationLock(meet func()) Option {
	return func(c *config) {
		c.hooks.unlocked = true
		c.hooks.step = func(step string) {
			if step == "migrate" {
				meet()
			}
		}
	}
}

// WithByID is the control of the plans: events are looked up by this.
func WithByID(change func(query string) string) Option {
	return func(c *config) {
		c.hooks.statements = func(s *statements) { s.byID = change(s.byID) }
	}
}

// CountingBegun calls f before each commit.
func CountingBegun(f func()) Option {
	return func(c *config) {
		c.hooks.step = func(step string) {
			if step == "commit" {
				f()
			}
		}
	}
}

// Texts are all that a store sends, by the name of the statement.
func Texts(s *Store) map[string]string {
	texts := map[string]string{}
	v := reflect.ValueOf(s.sql)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Field(i).Kind() == reflect.String {
			texts[name] = v.Field(i).String()
		}
	}
	for kind, name := range map[kind]string{ofStream: "lists of streams", ofType: "lists of types", ofTag: "lists of tags"} {
		texts[name] = s.sql.lists[kind]
	}
	return texts
}

// InUse returns how many connections are in use.
func InUse(s *Store) int32 { return s.pool.Stat().AcquiredConns() }
