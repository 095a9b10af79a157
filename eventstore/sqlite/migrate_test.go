package sqlite_test

func createUntilKilled() error { return nil }
func createWithin() error      { return nil }
