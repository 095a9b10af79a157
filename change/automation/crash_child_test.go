package automation_test

const childVariable = "ROLLFORWARD_AUTOMATION_CHILD"

func child() {}
