package sqlite

import (
	"context"
	"fmt"

	"github.com/rollforward/rollforward/eventstore"
)

// WithDeferred is the control that is known to be bad: transactions that begin
// without the write lock, and no patience with those who have it.
func WithDeferred() Option {
	return func(c *config) { c.hooks.begin, c.hooks.impatient = "BEGIN DEFERRED", true }
}

// WithPragmas runs SQL on each connection behind the store's own settings.
func WithPragmas(sql string) Option { return func(c *config) { c.hooks.pragmas = sql } }

// WithoutCheck treats every file as too large to be checked.
func WithoutCheck() Option { return func(c *config) { c.hooks.unchecked = true } }

// WithoutBound lets the log beside the file grow: the control.
func WithoutBound() Option { return func(c *config) { c.hooks.unbounded = true } }

// WithoutReserve holds nothing of the engine's memory: the control.
func WithoutReserve() Option { return func(c *config) { c.hooks.unreserved = true } }

// WithHarden calls f before the log beside the file is written once more.
func WithHarden(f func()) Option { return func(c *config) { c.hooks.harden = f } }

// WithStep calls f at each step of a write, before what it names.
func WithStep(f func(step string)) Option { return func(c *config) { c.hooks.step = f } }

// WithCommit calls f in place of each commit, which it is given.
func WithCommit(f func(commit func() error) error) Option {
	return func(c *config) { c.hooks.commit = f }
}

// Statements are all by which the store reads and looks up.
var Statements = []string{
	sqlScan, sqlByStream, sqlByStreamPayloads, sqlStream, sqlStreamPayloads, sqlAt, sqlPrefix, sqlBlocks, sqlListStream, sqlListType, sqlListTag, sqlPositionOf, sqlNameOf, sqlNames, sqlTypeOf,
	sqlHead, sqlStreamKey, sqlTypeKey, sqlTagKey, sqlVersion, sqlByID, sqlCheckpoint,
}

// Script runs SQL on the connection that appends.
func (s *Store) Script(sql string) error {
	c, err := s.acquire(context.Background(), s.writer)
	if err != nil {
		return err
	}
	defer release(s.writer, c, true)
	return c.script(sql)
}

// Settings opens every connection there can be and says how durable each is.
func (s *Store) Settings() ([]string, error) {
	var settings []string
	for _, slots := range []*pool{s.writer, s.readers} {
		for range cap(slots.free) {
			c, err := s.acquire(context.Background(), slots)
			if err != nil {
				return nil, err
			}
			defer release(slots, c, true)
			mode, err := c.text("PRAGMA journal_mode")
			if err != nil {
				return nil, err
			}
			level, _, err := c.number("PRAGMA synchronous")
			if err != nil {
				return nil, err
			}
			settings = append(settings, fmt.Sprint(mode, " ", level))
		}
	}
	return settings, nil
}

// FreeReaders returns how many connections for reading nobody uses.
func (s *Store) FreeReaders() int { return len(s.readers.free) }

// LookedAt returns how many rows a query looks at.
func (s *Store) LookedAt(q eventstore.Query) (rows int, err error) {
	err = s.read(context.Background(), func(c *conn) error {
		p, err := newPlan(c, q)
		for err == nil && !p.done {
			page := page{rows: pageRows}
			err = p.fill(c, &page)
			rows += page.looked
		}
		return err
	})
	return rows, err
}

// Waiting returns how many appends are in the queue.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// Reserved returns how much of the engine's memory the process holds, in pages.
func Reserved() int {
	reserve.mu.Lock()
	defer reserve.mu.Unlock()
	return len(reserve.held)
}
