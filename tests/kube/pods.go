package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// The node and its pods, as far as an API server can see them: what the scheduler and the kubelet would write is written, and
// nothing runs. A pod is bound to a node that its nodeSelector allows, gets addresses, is Running and Ready, and is gone as soon
// as it is deleted. Annotations of a pod say otherwise:
const (
	// "false": Running, and not Ready. It may change at any time.
	annotationReady = "test.isthmus.io/ready"
	// The pod's addresses, separated by commas, where something really listens there.
	annotationIPs = "test.isthmus.io/ips"
	// "slow": deleted, it is terminating for as long as it has this annotation.
	annotationStop = "test.isthmus.io/stop"
)

type pods struct {
	client    kubernetes.Interface
	nodes     []*corev1.Node
	addresses *addresses
	store     cache.Store
	queue     workqueue.TypedRateLimitingInterface[string]
	bound     int
}

func runPods(args []string) int {
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	cidrs := flags.String("pod-cidr", "", "ranges of pod addresses, at most one a family, separated by commas")
	nodes := flags.String("nodes", "", "nodes to have, as name=zone, separated by commas")
	_ = flags.Parse(args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, *kubeconfig, strings.Split(*cidrs, ","), strings.Split(*nodes, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "pods:", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, kubeconfig string, cidrs, nodes []string) error {
	addresses, err := newAddresses(cidrs)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	// No limit of the client's own: a test waits for these writes.
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().Pods().Informer()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	p := &pods{client: client, addresses: addresses, store: informer.GetStore(), queue: queue}
	for index, node := range nodes {
		if err := p.join(ctx, index, node); err != nil {
			return err
		}
	}
	if _, err := informer.AddEventHandler(p.handler()); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	cache.WaitForCacheSync(ctx.Done(), informer.HasSynced)
	for _, object := range p.store.List() {
		pod := object.(*corev1.Pod)
		p.addresses.keep(key(pod), podIPs(pod))
	}
	go func() { <-ctx.Done(); queue.ShutDown() }()
	for p.next(ctx) {
	}
	return nil
}

func (p *pods) handler() cache.ResourceEventHandler {
	add := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			p.queue.Add(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, object any) { add(object) }, DeleteFunc: add}
}

// next handles one pod. One at a time: addresses need no lock.
func (p *pods) next(ctx context.Context) bool {
	key, quit := p.queue.Get()
	if quit {
		return false
	}
	defer p.queue.Done(key)
	err := p.reconcile(ctx, key)
	switch {
	case err == nil || apierrors.IsNotFound(err):
		p.queue.Forget(key)
	case ctx.Err() == nil:
		fmt.Fprintf(os.Stderr, "pods: %s: %v\n", key, err)
		p.queue.AddRateLimited(key)
	}
	return true
}

func (p *pods) reconcile(ctx context.Context, name string) error {
	object, exists, err := p.store.GetByKey(name)
	if err != nil {
		return err
	}
	if !exists {
		p.addresses.release(name)
		return nil
	}
	pod := object.(*corev1.Pod)
	switch {
	case pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0:
		return nil
	case pod.DeletionTimestamp != nil && pod.Annotations[annotationStop] == "slow":
		return p.report(ctx, pod)
	case pod.DeletionTimestamp != nil:
		return p.end(ctx, pod)
	case pod.Spec.NodeName == "":
		return p.bind(ctx, pod)
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return nil
	default:
		return p.report(ctx, pod)
	}
}

// end is what the kubelet does when the last container has stopped.
func (p *pods) end(ctx context.Context, pod *corev1.Pod) error {
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	return p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
}

// bind is what the scheduler does, with nothing but the nodeSelector to choose by. A pod that fits nowhere stays Pending.
func (p *pods) bind(ctx context.Context, pod *corev1.Pod) error {
	selector := labels.SelectorFromSet(pod.Spec.NodeSelector)
	for range p.nodes {
		node := p.nodes[p.bound%len(p.nodes)]
		p.bound++
		if selector.Matches(labels.Set(node.Labels)) {
			target := corev1.ObjectReference{Kind: "Node", Name: node.Name}
			meta := metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
			binding := &corev1.Binding{ObjectMeta: meta, Target: target}
			return p.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
		}
	}
	return nil
}

func key(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

func podIPs(pod *corev1.Pod) []string {
	texts := make([]string, 0, 2)
	for _, ip := range pod.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	return texts
}
