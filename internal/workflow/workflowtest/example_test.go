package workflowtest_test

import (
	"fmt"

	"github.com/rollforward/rollforward/internal/workflow"
	"github.com/rollforward/rollforward/internal/workflow/workflowtest"
)

func ExampleModels() {
	vocabulary := workflow.Vocabulary{
		Plan: []workflow.Kind{"plan"}, Authorize: []workflow.Kind{"authorize"}, Implement: []workflow.Kind{"implement"},
		Review: []workflow.Kind{"review"}, Final: []workflow.Kind{"closed", "canceled"}, Canceled: "canceled",
		Parts: []string{"approver", "requester"},
	}
	models := workflowtest.Models(vocabulary)
	sound := 0
	for seed := range 20 {
		if models.Example(seed+1).Validate(vocabulary) == nil {
			sound++
		}
	}
	fmt.Println(sound, "of 20 are sound")
	// Output: 20 of 20 are sound
}
