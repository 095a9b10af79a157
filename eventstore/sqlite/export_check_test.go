package sqlite

import "context"

// Publish gives a finished copy its name, by a link that may fail.
func Publish(partial, path string, link func(from, to string) error) error {
	return publish(partial, path, link)
}

// Bound keeps the log beside a store's file short, as the store does after each commit.
type Bound struct{ bound walBound }

// Hold is called after each append.
func (b *Bound) Hold(s *Store) (err error) {
	c, err := s.acquire(context.Background(), s.writer)
	if err != nil {
		return err
	}
	defer func() { release(s.writer, c, err == nil) }()
	return b.bound.hold(c, s.path+"-wal")
}
