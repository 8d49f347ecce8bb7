package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	remote "k8s.io/cri-client/pkg"
)

// newRemoveSandboxesCommand stops and removes every pod sandbox of one container
// runtime. Going through the runtime is what gives network namespaces, addresses
// and port-mapping rules back; killing the processes would leave all of them.
func newRemoveSandboxesCommand() *cobra.Command {
	var endpoint string
	command := &cobra.Command{
		Use:           "remove-sandboxes",
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(command *cobra.Command, _ []string) error {
			return removeSandboxes(command.Context(), endpoint)
		},
	}
	command.Flags().StringVar(&endpoint, "endpoint", "", "the runtime's socket, as unix:///path")
	return command
}

func removeSandboxes(ctx context.Context, endpoint string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	runtime, err := remote.NewRemoteRuntimeService(ctx, endpoint, 30*time.Second, nil, false)
	if err != nil {
		return err
	}
	sandboxes, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	results := make(chan error)
	for _, sandbox := range sandboxes {
		go func() {
			err := runtime.StopPodSandbox(ctx, sandbox.Id)
			if err == nil {
				err = runtime.RemovePodSandbox(ctx, sandbox.Id)
			}
			results <- err
		}()
	}
	var failures []error
	for range sandboxes {
		failures = append(failures, <-results)
	}
	fmt.Printf("%d pod sandboxes\n", len(sandboxes))
	return errors.Join(failures...)
}
