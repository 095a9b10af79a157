package sqlite

// Publish gives a finished copy its name, by a link that may fail.
func Publish(partial, path string, link func(from, to string) error) error {
	return publish(partial, path, link)
}
