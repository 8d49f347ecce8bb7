package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Written by the PersistentVolume controller on each claim of a class that has an
// external provisioner, and by the provisioner on the volumes it made.
const (
	claimProvisioner  = "volume.kubernetes.io/storage-provisioner"
	volumeProvisioner = "pv.kubernetes.io/provisioned-by"
	ourName           = "devcluster/directory"
)

// provisioner gives each claim of its class a directory on this machine, as a
// `local` volume (unlike hostPath, the kubelet applies a pod's fsGroup to it), and
// removes the directory with the volume. Capacity is recorded, not enforced.
type provisioner struct {
	client    kubernetes.Interface
	directory string
	node      string
}

func newVolumeProvisionerCommand() *cobra.Command {
	var kubeconfig string
	var p provisioner
	command := &cobra.Command{
		Use:          "volume-provisioner",
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			if p.client, err = kubernetes.NewForConfig(config); err != nil {
				return err
			}
			return p.run(context.Background())
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&p.directory, "directory", "", "where the volumes' directories go")
	command.Flags().StringVar(&p.node, "node", "", "name of the node this machine is")
	return command
}

func (p *provisioner) run(ctx context.Context) error {
	// The resync is the retry: what failed is offered again after this time.
	factory := informers.NewSharedInformerFactory(p.client, 15*time.Second)
	handle := func(object any) {
		var err error
		switch item := object.(type) {
		case *core.PersistentVolumeClaim:
			err = p.provision(ctx, item)
		case *core.PersistentVolume:
			err = p.reclaim(ctx, item)
		}
		if err != nil {
			klog.ErrorS(err, "will be tried again")
		}
	}
	events := cache.ResourceEventHandlerFuncs{
		AddFunc:    handle,
		UpdateFunc: func(_, object any) { handle(object) },
	}
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	for _, informer := range []cache.SharedIndexInformer{volumes, claims} {
		if _, err := informer.AddEventHandler(events); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return nil
}

func (p *provisioner) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Annotations[claimProvisioner] != ourName || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(p.directory, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	// MkdirAll obeys the umask; pods run as any user.
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	mode := core.PersistentVolumeFilesystem
	volume := &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{volumeProvisioner: ourName}},
		Spec: core.PersistentVolumeSpec{
			StorageClassName:              *claim.Spec.StorageClassName,
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			VolumeMode:                    &mode,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
				}},
			}}}},
		},
	}
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("volume for claim %s/%s: %w", claim.Namespace, claim.Name, err)
	}
	return nil
}

func (p *provisioner) reclaim(ctx context.Context, volume *core.PersistentVolume) error {
	ours := volume.Annotations[volumeProvisioner] == ourName && volume.Spec.Local != nil
	if !ours || volume.Status.Phase != core.VolumeReleased {
		return nil
	}
	// Only a direct child of our own folder, whatever the object says.
	if path := volume.Spec.Local.Path; filepath.Dir(path) == filepath.Clean(p.directory) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	err := p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}
