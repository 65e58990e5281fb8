// The OTLP receiver of the OpenTelemetry Collector as its makers wrote it (go.opentelemetry.io/collector, Apache-2.0), and behind it a file: each
// request is a line of OTLP's JSON, as the collector's file exporter writes it.
//
// usage: collector ADDRESS FILE [CERTIFICATE KEY]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
)

func main() {
	if len(os.Args) != 3 && len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: collector ADDRESS FILE [CERTIFICATE KEY]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, path string, tls []string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer file.Close()
	receiver, err := otlp(address, tls, lines(file))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := receiver.Start(ctx, componenttest.NewNopHost()); err != nil {
		return err
	}
	<-ctx.Done()
	return receiver.Shutdown(context.Background())
}

// otlp makes the receiver of the keys that a collector's configuration has.
func otlp(address string, tls []string, next consumer.Traces) (receiver.Traces, error) {
	grpc := map[string]any{"endpoint": address}
	if len(tls) == 2 {
		grpc["tls"] = map[string]any{"cert_file": tls[0], "key_file": tls[1]}
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	keys := map[string]any{"protocols": map[string]any{"grpc": grpc}}
	if err := confmap.NewFromStringMap(keys).Unmarshal(config); err != nil {
		return nil, err
	}
	settings := receiver.Settings{
		ID:                component.NewID(factory.Type()),
		TelemetrySettings: componenttest.NewNopTelemetrySettings(),
		BuildInfo:         component.NewDefaultBuildInfo(),
	}
	return factory.CreateTraces(context.Background(), settings, config, next)
}

// lines writes what it is given to the file, a request a line.
func lines(file *os.File) consumer.Traces {
	var turn sync.Mutex
	next, err := consumer.NewTraces(func(_ context.Context, traces ptrace.Traces) error {
		line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
		if err != nil {
			return err
		}
		turn.Lock()
		defer turn.Unlock()
		_, err = file.Write(append(line, '\n'))
		return err
	})
	if err != nil {
		panic(err)
	}
	return next
}
