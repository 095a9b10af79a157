package postgres

// Channel is that of a store, which has its schema's name.
func Channel(s *Store) string { return s.channel() }

// Patient returns how many appends of a store wait for a stream.
func Patient(s *Store) int { return len(s.queue.patient) }
