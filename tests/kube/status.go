package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// join makes a node that is Ready, and stays so: the controller that would miss its heartbeats does not run.
func (p *pods) join(ctx context.Context, index int, text string) error {
	name, zone, found := strings.Cut(text, "=")
	if !found || name == "" {
		return fmt.Errorf("--nodes: found %q, expected name=zone", text)
	}
	labels := map[string]string{
		corev1.LabelHostname: name, corev1.LabelTopologyZone: zone, corev1.LabelOSStable: "linux",
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	nodes := p.client.CoreV1().Nodes()
	created, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		created, err = nodes.Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	created.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	created.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: name},
		{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.16.0.%d", index+1)},
	}
	p.nodes = append(p.nodes, created)
	_, err = nodes.UpdateStatus(ctx, created, metav1.UpdateOptions{})
	return err
}

// report is what the kubelet says of a pod whose containers all run.
func (p *pods) report(ctx context.Context, pod *corev1.Pod) error {
	ips, err := p.ips(pod)
	if err != nil {
		return err
	}
	ready := corev1.ConditionTrue
	if pod.Annotations[annotationReady] == "false" {
		ready = corev1.ConditionFalse
	}
	if pod.Status.Phase == corev1.PodRunning && slices.Equal(podIPs(pod), ips) && condition(pod, corev1.PodReady) == ready {
		return nil
	}
	pod = pod.DeepCopy()
	now := metav1.Now()
	status := &pod.Status
	status.Phase = corev1.PodRunning
	status.PodIP = ips[0]
	status.PodIPs = nil
	for _, ip := range ips {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip})
	}
	if status.StartTime == nil {
		status.StartTime = &now
	}
	status.ContainerStatuses = containers(pod, ready, now)
	setCondition(pod, corev1.PodInitialized, corev1.ConditionTrue, now)
	setCondition(pod, corev1.ContainersReady, ready, now)
	setCondition(pod, corev1.PodReady, ready, now)
	_, err = p.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}

func (p *pods) ips(pod *corev1.Pod) ([]string, error) {
	if text := pod.Annotations[annotationIPs]; text != "" {
		return strings.Split(text, ","), nil
	}
	return p.addresses.take(key(pod))
}

func containers(pod *corev1.Pod, ready corev1.ConditionStatus, now metav1.Time) []corev1.ContainerStatus {
	started := true
	statuses := make([]corev1.ContainerStatus, 0, len(pod.Spec.Containers))
	for _, container := range pod.Spec.Containers {
		statuses = append(statuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, ContainerID: "none://" + container.Name,
			Ready: ready == corev1.ConditionTrue, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return statuses
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == kind {
			return condition.Status
		}
	}
	return corev1.ConditionUnknown
}

func setCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, now metav1.Time) {
	if condition(pod, kind) == status {
		return
	}
	conditions := slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	pod.Status.Conditions = append(conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now})
}
