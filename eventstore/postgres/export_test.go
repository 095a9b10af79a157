package postgres

// Channel is that of a store, which has its schema's name.
func Channel(s *Store) string { return s.channel() }
